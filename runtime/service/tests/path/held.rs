//! What requests under way hold of a key's limits, and what others are told meanwhile.

use std::time::Duration;

use firecrest_policy::limits::{Budget, Limit, Tier};
use firecrest_service::host::Host;
use futures_util::future::join;
use serde_json::json;

use crate::answers::{asks, slow};
use crate::world::*;

/// The day's tokens, or the minute's, are held and not used: whoever comes meanwhile may come again at once, and is served then.
#[test]
fn what_others_hold_is_not_used_up() {
    let minute = |tokens| Limit::per_minute(1).expect("a limit").with_capacity(tokens).ok();
    let tiers = [
        ("day", Tier { budget: Budget::new(300, 86_400_000).ok(), ..Tier::default() }),
        ("output", Tier { output: minute(256), ..Tier::default() }),
    ];
    for (key, tier) in tiers {
        for (path, body) in asks(false) {
            let world = World::new();
            world.key(key, tier.clone());
            slow(&world, "w0 w1 w2", Duration::from_secs(5));
            let service = service(&world);
            let mut first = asks(false)[0].1.clone();
            first["max_tokens"] = json!(250);
            let mut second = body.clone();
            for name in ["max_tokens", "max_output_tokens"] {
                if second.get(name).is_some() {
                    second[name] = json!(50);
                }
            }
            let request = || by(key, path, &second);
            let (answer, refused) = world.run(join(async { read(service.handle(by(key, "/v1/messages", &first)).await).await }, async {
                world.sleep(Duration::from_secs(1)).await;
                read(service.handle(request()).await).await
            }));
            assert_eq!(answer.status, 200, "{key} {path} {}", answer.body);
            let error = refused.json()["error"].clone();
            assert_eq!((refused.status.as_u16(), error["type"].as_str()), (429, Some("rate_limit_error")), "{key} {path} {}", refused.body);
            assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), (None, Some("2")), "{key} {path}");
            let code = if path == "/v1/messages" { &error["details"]["error_code"] } else { &error["code"] };
            assert!(code.is_null() || code == "rate_limit_exceeded", "{key} {path} {}", refused.body);
            assert!(error["message"].as_str().is_some_and(|message| message.contains("under way")), "{}", refused.body);
            world.settle();
            let served = ask(&service, request());
            assert_eq!(served.status, 200, "{key} {path} {}", served.body);
        }
    }
}
