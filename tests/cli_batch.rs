//! `tidegate batch` as its users start it.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with an input of one line, and the program about to run in it without any key.
fn tidegate(dir: &TempDir, args: &[&str]) -> Command {
    fs::write(dir.path().join("in.jsonl"), "{\"id\":\"a\",\"prompt\":\"hello\"}\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(dir.path()).args(args).stdin(Stdio::null());
    command.env_remove("DEEPSEEK_API_KEY").env_remove("OPENAI_API_KEY");
    command
}

fn run(dir: &TempDir, args: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = tidegate(dir, args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// The names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn without_a_key_it_says_so_and_offers_the_simulation() {
    let dir = tempfile::tempdir().unwrap();
    let (code, message) = run(&dir, &["batch", "in.jsonl", "-o", "out.jsonl"]);
    assert_eq!(code, 2);
    assert!(message.contains("DEEPSEEK_API_KEY") && message.contains("--simulate"), "{message}");
    assert_eq!(names(dir.path()), ["in.jsonl"]);
}

#[test]
fn a_key_with_a_newline_is_refused_without_being_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tidegate(&dir, &["batch", "in.jsonl", "-o", "out.jsonl"]);
    let output = command.env("DEEPSEEK_API_KEY", "sk-secret\n").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(message.contains("line break") && !message.contains("secret"), "{message}");
}

#[test]
fn what_is_wrong_is_said_before_any_file_is_touched() {
    for (args, part) in [
        (&["batch", "missing.jsonl", "-o", "out.jsonl"][..], "missing.jsonl"),
        (&["batch", "folder", "-o", "out.jsonl"], "folder: this is a directory"),
        (&["batch", "in.jsonl", "-o", "folder"], "folder: this is a directory"),
        (&["batch", "in.jsonl", "-o", "no/such/out.jsonl"], "the folder no/such does not exist"),
        (&["batch", "in.jsonl", "-o", "./in.jsonl"], "in.jsonl: is named twice, as input and as output"),
        (&["batch", "in.jsonl", "-o", "o", "--errors", "in.jsonl"], "is named twice, as input and as errors"),
        (&["batch", "in.jsonl", "-o", "o", "--errors", "o"], "o: is named twice, as output and as errors"),
        (&["batch", "in.jsonl", "-o", "-"], "standard output"),
        (&["batch", "in.jsonl", "-o", "out.jsonl", "--base-url", "ftp://host"], "expected http or https"),
        (&["batch", "in.jsonl", "-o", "out.jsonl", "--base-url", "host/v1"], "--base-url \"host/v1\""),
        (&["batch", "in.jsonl", "-o", "out.jsonl", "--max-concurrency", "0"], "--max-concurrency"),
        (&["batch", "in.jsonl", "-o", "out.jsonl", "--api-key-env", "NOT_SET"], "set NOT_SET"),
        (&["batch", "in.jsonl"], "--output"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        let (code, message) = run(&dir, args);
        assert_eq!(code, 2, "{args:?}: {message}");
        assert!(message.contains(part), "{args:?}: {message}");
        assert_eq!(names(dir.path()), ["folder", "in.jsonl"], "{args:?}");
        assert_eq!(names(&dir.path().join("folder")), [""; 0], "{args:?}");
    }
}
