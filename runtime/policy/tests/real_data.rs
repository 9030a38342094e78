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

/// A line's fields, of which some stand in quotation marks, and quotation marks in those are doubled.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match (c, fields.last_mut()) {
            (',', _) if !quoted => fields.push(String::new()),
            ('"', _) => quoted = !quoted,
            (c, Some(field)) => field.push(c),
            _ => {}
        }
    }
    fields
}

/// Prompts that sound harmful and are not are hardly ever blocked; those that are would need a classifier, and are only counted.
#[test]
fn safe_prompts_that_sound_harmful_are_not_blocked() {
    let Some(file) = data("moderation/xstest-half.csv") else { return };
    let policy = Policy::standard().expect("rules");
    let text = std::fs::read_to_string(file).expect("text");
    let lines: Vec<Vec<String>> = text.lines().skip(1).map(fields).collect();
    for label in ["safe", "unsafe"] {
        let prompts = lines.iter().filter(|line| line[3] == label).map(|line| line[1].as_str());
        let (all, flagged, blocked, rules) = count(&policy, Direction::Input, prompts);
        eprintln!("XSTest, {label}: {all} texts, {flagged} flagged, {blocked} blocked: {rules:?}");
        assert!(all > 90 && (label == "unsafe" || blocked * 50 <= all), "{rules:?}");
    }
}

/// People's prompts of which others have said what is in them.
#[test]
fn prompts_without_harm_are_not_blocked() {
    let Some(file) = data("moderation/openai-moderation-half.jsonl") else { return };
    let policy = Policy::standard().expect("rules");
    let text = std::fs::read_to_string(file).expect("text");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let harm = |line: &serde_json::Value| line.as_object().is_some_and(|line| line.values().any(|value| value == 1));
    for harmful in [false, true] {
        let prompts = lines.iter().filter(|line| harm(line) == harmful).filter_map(|line| line["prompt"].as_str());
        let (all, flagged, blocked, rules) = count(&policy, Direction::Input, prompts);
        eprintln!("moderation, harmful: {harmful}: {all} texts, {flagged} flagged, {blocked} blocked: {rules:?}");
        assert!(all > 200 && (harmful || blocked == 0), "{rules:?}");
    }
}
