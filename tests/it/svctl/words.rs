//! The command line of `svctl`.

use support::*;

#[test]
fn a_wrong_word_is_refused_with_the_nearest() {
    let outcome = run("svctl").arg("enabel").go();
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(100), ""));
    assert!(
        outcome.err.starts_with("svctl: enabel is no command; did you mean enable?\n"),
        "{}",
        outcome.err
    );
}

#[test]
fn each_command_has_help() {
    let help = run("svctl").arg("--help").go();
    let verbs = help.out.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let verbs: Vec<String> = verbs.map(str::to_owned).collect();
    for verb in ["list", "why", "log", "enable", "down"] {
        assert!(verbs.contains(&verb.to_owned()), "{}", help.out);
        let outcome = run("svctl").args(&["--help", verb]).go();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{verb}");
        assert!(outcome.out.starts_with(&format!("usage: svctl {verb} ")), "{}", outcome.out);
    }
}
