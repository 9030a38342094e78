//! The rules that ship on text that nobody wrote for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firecrest_policy::safety::decision::{Action, By};
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::rules::{Direction, Policy};

/// `shared/data` beside the repository or above it. A user's checkout has none.
fn data(name: &str) -> Option<PathBuf> {
    let found =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|above| above.join("shared/data").join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: there is no shared/data/{name}");
    }
    found
}

/// Texts by the gravest that was found, and by rule.
fn count<'a>(
    policy: &Policy,
    direction: Direction,
    texts: impl Iterator<Item = &'a str>,
) -> (usize, usize, usize, BTreeMap<String, usize>) {
    let (mut all, mut flagged, mut blocked, mut rules) = (0, 0, 0, BTreeMap::new());
    for text in texts {
        let verdict = judge_text(policy, direction, text, None);
        all += 1;
        flagged += usize::from(verdict.decision.action == Action::Flag);
        blocked += usize::from(verdict.decision.action == Action::Block);
        for finding in verdict.findings {
            if let By::Rule(rule) = finding.by {
                *rules.entry(rule).or_default() += 1;
            }
        }
    }
    (all, flagged, blocked, rules)
}

#[test]
fn tales_are_not_blocked() {
    let Some(folder) = data("text/grimm") else { return };
    let policy = Policy::standard().expect("rules");
    let tales: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect();
    for direction in [Direction::Input, Direction::Output] {
        let (all, flagged, blocked, rules) = count(&policy, direction, tales.iter().map(String::as_str));
        eprintln!("tales, {direction:?}: {all} texts, {flagged} flagged, {blocked} blocked: {rules:?}");
        assert!(all > 100 && blocked == 0, "{rules:?}");
    }
}

#[test]
fn what_people_ask_an_assistant_is_not_blocked() {
    let Some(file) = data("intents/clinc150_data_full.json") else { return };
    let policy = Policy::standard().expect("rules");
    let sets: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&std::fs::read_to_string(file).expect("text")).expect("JSON");
    let texts = || sets.values().flatten().map(|(text, _)| text.as_str());
    let (all, flagged, blocked, rules) = count(&policy, Direction::Input, texts());
    eprintln!("intents: {all} texts, {flagged} flagged, {blocked} blocked: {rules:?}");
    assert!(all > 10_000 && blocked == 0, "{rules:?}");
    assert!(flagged * 1000 < all, "one in a thousand at most is flagged: {rules:?}");
}

/// Prompts that sound harmful and are not are never blocked; those that are would need a classifier, and are only counted.
#[test]
fn safe_prompts_that_sound_harmful_are_not_blocked() {
    let Some(file) = data("moderation/xstest-half.csv") else { return };
    let policy = Policy::standard().expect("rules");
    let text = std::fs::read_to_string(file).expect("text");
    let (contrasts, safe): (Vec<&str>, Vec<&str>) = text.lines().skip(1).partition(|line| line.contains("contrast"));
    for (name, lines) in [("safe", &safe), ("unsafe", &contrasts)] {
        let (all, flagged, blocked, rules) = count(&policy, Direction::Input, lines.iter().copied());
        eprintln!("XSTest, {name}: {all} texts, {flagged} flagged, {blocked} blocked: {rules:?}");
        assert!(name == "unsafe" || (all > 50 && blocked == 0), "{rules:?}");
    }
}
