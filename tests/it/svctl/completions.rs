//! Completion of `svctl` in bash, zsh and fish themselves.

use std::os::unix::fs::symlink;
use std::path::Path;

use support::*;

use super::svctl;

/// A directory with `svctl` in `bin`, the completion for a shell in a file, and services.
fn prepared(file: &str) -> TempDir {
    let root = TempDir::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions").join(file);
    let help = svctl().arg("--help").go().out;
    // The build puts the words of the catalog there.
    let words = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let words: Vec<&str> = words
        .filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'))
        .collect();
    root.file(file.rsplit('/').next().unwrap(), read(source).replace("@COMMANDS@", &words.join(" ")));
    std::fs::create_dir(root.join("bin")).unwrap();
    symlink(executable(), root.join("bin/svctl")).unwrap();
    for name in ["web", "web-2", "a b", "x$(touch HIT)", "it's"] {
        root.script(&format!("service/{name}/run"), "exec sleep 1000");
    }
    root.script("service/logged/run", "exec sleep 1000");
    root.script("service/logged/log/run", "exec cat");
    root.script("sv/fresh/run", "exec sleep 1000");
    root
}

fn in_shell(root: &TempDir, shell: &str, words: &[&str]) -> Run {
    needs_program(shell);
    let path = format!("{}:/usr/bin:/bin", root.join("bin").display());
    let run = run_file(format!("/usr/bin/{shell}")).args(words).dir(root.path()).env("PATH", path);
    run.env("SVDIR", root.join("service"))
        .env("SVSRC", root.join("sv"))
        .env("HOME", root.path())
        .env("TERM", "dumb")
}

/// The lines that begin with `word`, which have the rest that a shell proposes.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn bash_completes() {
    let root = prepared("bash/svctl");
    let proposed = |line: &str| {
        let script = format!(
            "source ./svctl; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             compopt() {{ :; }}; _svctl 2>err; printf '%s\\n' \"${{COMPREPLY[@]}}\"; cat err"
        );
        in_shell(&root, "bash", &["--norc", "-c", &script]).go().out
    };
    assert_eq!(sorted(&proposed("svctl e")), ["enable", "events"]);
    assert_eq!(sorted(&proposed("svctl status we")), ["web", "web-2"]);
    assert_eq!(sorted(&proposed("svctl -d service stop lo")), ["logged"]);
    assert_eq!(sorted(&proposed("svctl stop a")), [r"a\ b"]);
    assert_eq!(sorted(&proposed("svctl stop x")), [r"x\$\(touch\ HIT\)"]);
    assert_eq!(sorted(&proposed("svctl log ''")), ["logged"]);
    assert_eq!(sorted(&proposed("svctl enable f")), ["fresh"]);
    assert_eq!(sorted(&proposed("svctl wait u")), ["up"]);
    assert_eq!(sorted(&proposed("svctl disable --n")), ["--now"]);
    assert_eq!(sorted(&proposed("svctl kill -s H")), ["HUP"]);
    assert!(sorted(&proposed("svctl enable --")).contains(&"--dry-run"));
    assert!(!root.join("HIT").exists());
    // With the engine of the shell, too: the completion is found and inserts a name.
    needs_program("script");
    let lines = "PS1=; source ./svctl; svctl() { [ \"$1\" = names ] && command svctl \"$@\" || echo \"GOT:$*.\"; }\nsvctl status lo\t\nexit\n";
    let out = in_shell(&root, "script", &["-qec", "bash --norc -i", "typescript"]).input(lines).go().out;
    assert!(out.contains("GOT:status logged."), "{out}");
}

#[test]
fn zsh_completes() {
    needs_program("script");
    needs_program("zsh");
    let root = prepared("zsh/_svctl");
    let lines = [
        ("svctl ena", "svctl enable"),
        ("svctl status logg", "svctl status logged"),
        ("svctl -d service stop a", r"svctl -d service stop a\ b"),
        ("svctl stop x", r"svctl stop x\$\(touch\ HIT\)"),
        ("svctl log ", "svctl log logged"),
        ("svctl enable f", "svctl enable fresh"),
        ("svctl disable --no", "svctl disable --now"),
        ("svctl wait u", "svctl wait up"),
    ];
    // Control-T prints the line as the engine completes it.
    let set_up = "PS1= PS2=; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; unsetopt beep; \
        show() { zle complete-word; print -r -- \"GOT:$BUFFER.\"; BUFFER= }; zle -N show; bindkey '^T' show\n";
    let typed: String = lines.iter().map(|(line, _)| format!("{line}\u{14}\n")).collect();
    let zsh = in_shell(&root, "script", &["-qec", "zsh -f -i", "typescript"]);
    let out = zsh.input(format!("{set_up}{typed}exit\n")).go().out.replace('\r', "");
    let got: Vec<&str> = out.split("GOT:").skip(1).filter_map(|got| got.split(".\n").next()).collect();
    // The first is the echo of what was typed.
    let got: Vec<&str> =
        got.into_iter().filter(|line| line.starts_with("svctl ")).map(str::trim_end).collect();
    assert_eq!(got, lines.map(|(_, expected)| expected), "{out}");
    assert!(!root.join("HIT").exists());
}

#[test]
fn fish_completes() {
    let root = prepared("fish/svctl.fish");
    let proposed = |line: &str| {
        let script = format!("source ./svctl.fish; complete -C \"{line}\"");
        let out = in_shell(&root, "fish", &["--no-config", "-c", &script]).go();
        let words = out.out.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        let mut words: Vec<String> = words.collect();
        words.sort_unstable();
        words
    };
    assert_eq!(proposed("svctl e"), ["enable", "events"]);
    assert_eq!(proposed("svctl status we"), ["web", "web-2"]);
    assert_eq!(proposed("svctl -d service stop lo"), ["logged"]);
    assert_eq!(proposed("svctl stop a").len(), 1);
    assert_eq!(proposed("svctl log "), ["logged"]);
    assert_eq!(proposed("svctl enable f"), ["fresh"]);
    assert_eq!(proposed("svctl disable --no"), ["--now"]);
    assert_eq!(proposed("svctl wait u"), ["up"]);
    assert_eq!(proposed("svctl -d service wait "), ["done", "down", "ready", "up"]);
    assert_eq!(proposed("svctl wait up we"), ["web", "web-2"]);
    assert!(!root.join("HIT").exists());
}

#[test]
fn names_are_printed_a_line_each() {
    let root = prepared("bash/svctl");
    std::fs::create_dir(root.join("service/two\nlines")).unwrap();
    let names = |words: &[&str]| svctl().args(words).env("SVDIR", root.join("service")).go().out;
    assert_eq!(names(&["names"]), "a b\nit's\nlogged\nweb\nweb-2\nx$(touch HIT)\n");
    assert_eq!(names(&["names", "--log"]), "logged\n");
}
