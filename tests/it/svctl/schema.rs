//! What `svctl` prints as JSON, compared with `docs/svctl.schema.json` by a validator.

use std::fs;
use std::process::Command;

use super::{svctl, svctl_in};
use support::*;

/// Checks one JSON value a line against the schema, and prints what of it a case asks for: `name=value` lines.
const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for line in sys.stdin:
    value = json.loads(line)
    errors = [error.message for error in validator.iter_errors(value)]
    if errors:
        sys.exit("\n".join(errors) + "\n" + line)
    print("valid")
"#;

pub(super) fn needs_validator() {
    let import = Command::new("/usr/bin/env").args(["python3", "-c", "import jsonschema"]).output();
    let has_it = import.is_ok_and(|output| output.status.success());
    needs("python3 with jsonschema (apt-get install python3-jsonschema)", has_it);
}

#[track_caller]
pub(super) fn validate(text: &str) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/svctl.schema.json");
    let python = run_file("/usr/bin/env").args(&["python3", "-c", VALIDATE, schema]);
    let outcome = python.env("PATH", std::env::var_os("PATH").unwrap()).input(text).go();
    assert_eq!(
        (outcome.code, outcome.out.lines().count()),
        (Some(0), text.lines().count()),
        "{}",
        outcome.err
    );
}

#[test]
fn lists_and_events_are_as_the_schema_has_them() {
    needs_validator();
    under_any_supervisor(|tree, is_stock| {
        tree.sleeper("web");
        tree.sleeper("paused");
        tree.define("bad", "exit 3");
        tree.define("bad/log", "exec cat >/dev/null");
        tree.link("bad");
        tree.define("killed", "kill -9 $$");
        tree.link("killed");
        tree.define("given-up", "exit 1");
        tree.file("given-up", "restart-limit", "2 10");
        tree.file("given-up", "restart-delay", "10");
        tree.link("given-up");
        tree.start();
        eventually("up", || tree.is_up("web") && tree.is_up("paused"));
        fs::create_dir(tree.root.join("service/alone")).unwrap();
        send(&tree.root.join("sv/paused/supervise/control"), "p");
        let list = || svctl_in(tree).args(&["list", "--json", "--tree"]).go();
        eventually("all seen", || {
            let out = list().out;
            let wanted: &[&str] = match is_stock {
                true => &["\"condition\":\"paused\""],
                false => &[
                    "\"signal\":\"KILL\"",
                    "\"code\":3",
                    "\"condition\":\"given up\"",
                    "\"condition\":\"paused\"",
                ],
            };
            wanted.iter().all(|text| out.contains(text))
        });
        validate(&list().out);
        validate(&svctl_in(tree).args(&["status", "--json", "web", "bad"]).go().out);
        let out = tree.root.join("events");
        let mut events = svctl_in(tree).args(&["events", "--json"]).start(&out);
        eventually("events", || read(&out).lines().count() > 5);
        events.kill();
        let text = read(&out);
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        validate(whole);
    });
}

#[test]
fn what_the_schema_does_not_have_is_refused() {
    needs_validator();
    let wrong = "{\"tree\":\"/x\",\"services\":[{\"name\":\"x\"}]}\n";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/svctl.schema.json");
    let python = run_file("/usr/bin/env").args(&["python3", "-c", VALIDATE, schema]);
    let outcome = python.env("PATH", std::env::var_os("PATH").unwrap()).input(wrong).go();
    assert_eq!(outcome.code, Some(1));
    validate(&svctl().args(&["list", "--json", "/nonexistent/x"]).go().out);
}
