//! `tidegate batch` as its users start it.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A folder with an input of one line, and the program about to run in it without any key.
fn tidegate(dir: &TempDir, args: &[&str]) -> Command {
    fs::write(dir.path().join("in.jsonl"), "{\"id\":\"a\",\"prompt\":\"hello\"}\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(dir.path()).args(args).stdin(Stdio::null());
    command.env_remove("DEEPSEEK_API_KEY").env_remove("DEEPSEEK_BASE_URL").env_remove("OPENAI_API_KEY");
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

/// A folder with `count` requests and a scenario, and the program about to send them to a simulation.
fn simulate(dir: &TempDir, count: usize, scenario: &str) -> Command {
    fs::write(dir.path().join("scenario.json"), scenario).unwrap();
    simulate_with(dir, count, "scenario.json")
}

/// The same, with the scenario as it is named on the command line.
fn simulate_with(dir: &TempDir, count: usize, scenario: &str) -> Command {
    let mut command = tidegate(dir, &["batch", "in.jsonl", "-o", "out.jsonl", "--quiet", "--json"]);
    command.args(["--simulate", "--scenario", scenario]);
    let input: String = (0..count).map(|n| format!("{{\"id\":\"id-{n}\",\"prompt\":\"number {n}\"}}\n")).collect();
    fs::write(dir.path().join("in.jsonl"), input).unwrap();
    command
}

const QUICK: &str = r#"{"cap": 50, "service": {"time": 0.01}}"#;
/// Slow enough to be stopped half-way.
const SLOW: &str = r#"{"cap": 4, "service": {"time": 0.1}}"#;
/// Most requests wait for an hour.
const STUCK: &str = r#"{"cap": 4, "service": {"time": 0.01}, "queue": {"wait": 3600, "probability": 0.8}}"#;

#[test]
fn a_scenario_may_be_written_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let (code, summary) = finish(simulate_with(&dir, 20, QUICK).output().unwrap());
    assert_eq!((code, &summary["answered"]), (0, &Value::from(20)), "{summary}");
    assert_eq!(summary["simulation"]["timeline"][0]["cap"], 50);
    let wrong = ["batch", "in.jsonl", "-o", "new.jsonl", "--simulate", "--scenario", "{\"kap\": 5}"];
    let (code, message) = run(&dir, &wrong);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("--scenario: ") && message.contains("unknown field `kap`"), "{message}");
}

/// The exit code, and the summary on standard output.
fn finish(output: Output) -> (i32, Value) {
    let summary = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), summary)
}

/// The ids in the output; every line has to be an answer, and no id may be there twice.
fn answered(dir: &TempDir) -> BTreeSet<String> {
    let text = fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let mut ids = BTreeSet::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["response"]["status_code"], 200);
        assert!(value["response"]["body"]["choices"][0]["message"]["content"].is_string(), "{line}");
        assert_eq!(value["error"], Value::Null);
        let id = value["custom_id"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "answered twice: {line}");
    }
    ids
}

fn all(count: usize) -> BTreeSet<String> {
    (0..count).map(|n| format!("id-{n}")).collect()
}

/// Waits until some answers have been written.
fn until_answers(dir: &TempDir, count: usize) {
    let path = dir.path().join("out.jsonl");
    while fs::read(&path).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count() < count {
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A server that says the same to whatever it is asked; its base URL.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_simulated_batch_answers_every_line_and_tells_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let (code, summary) = finish(simulate(&dir, 100, QUICK).output().unwrap());
    assert_eq!((code, &summary["status"]), (0, &Value::from("done")), "{summary}");
    assert_eq!(summary["answered"], 100);
    assert!(summary["prompt_tokens"].as_u64().unwrap() > 0 && summary["cost_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["simulation"]["answered_twice"], 0);
    assert_eq!(answered(&dir), all(100));
    assert_eq!(names(dir.path()), ["in.jsonl", "out.jsonl", "scenario.json"], "no error file without errors");
}

#[test]
fn each_attempt_is_told_once_whatever_it_came_to() {
    let dir = tempfile::tempdir().unwrap();
    let troubled = r#"{"cap": 4, "service": {"time": 0.01}, "windows": [
        {"status": 503, "from": 0, "to": 0.2}, {"status": 500, "from": 0.2, "to": 60, "probability": 0.05}]}"#;
    let (code, summary) = finish(simulate(&dir, 60, troubled).output().unwrap());
    assert_eq!((code, &summary["answered"]), (0, &Value::from(60)), "{summary}");
    let [sent, rejected, again] = ["attempts", "rejected", "retries"].map(|key| summary[key].as_u64().unwrap());
    assert!(again > 0);
    assert_eq!(sent, 60 + rejected + again, "{summary}");
}

#[test]
fn killed_and_run_again_every_id_is_answered_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(&mut simulate(&dir, 60, SLOW));
    until_answers(&dir, 5);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = fs::read(dir.path().join("out.jsonl")).unwrap();
    // As if it had been killed in the middle of a line.
    let torn = before.len() - 10;
    fs::write(dir.path().join("out.jsonl"), &before[..torn]).unwrap();

    let (code, summary) = finish(simulate(&dir, 60, QUICK).output().unwrap());
    assert_eq!(code, 0, "{summary}");
    assert_eq!(answered(&dir), all(60));
    let again = summary["answered_before"].as_u64().unwrap();
    assert!(again >= 4, "{summary}");
    assert_eq!(summary["attempts"].as_u64().unwrap() - summary["rejected"].as_u64().unwrap(), 60 - again);
    let after = fs::read(dir.path().join("out.jsonl")).unwrap();
    let whole = before[..torn].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    assert_eq!(after[..whole], before[..whole], "what was answered is not touched");
}

#[test]
fn two_runs_do_not_write_one_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(&mut simulate(&dir, 60, SLOW));
    until_answers(&dir, 1);
    let second = simulate(&dir, 60, SLOW).output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another run is writing to it"));
}

#[test]
fn bad_lines_are_told_by_number_and_the_rest_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = simulate(&dir, 3, QUICK);
    let path = dir.path().join("in.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{{\r\n\r\n{good}{{\"id\":\"id-0\",\"prompt\":\"again\"}}\n{}", "x".repeat(1000)))
        .unwrap();
    let (code, summary) = finish(command.args(["--max-line-bytes", "500"]).output().unwrap());
    assert_eq!((code, &summary["status"]), (1, &Value::from("incomplete")));
    assert_eq!((&summary["answered"], &summary["bad_lines"]), (&Value::from(3), &Value::from(3)));
    assert_eq!(answered(&dir), all(3));
    let errors = fs::read_to_string(dir.path().join("out.errors.jsonl")).unwrap();
    let errors: Vec<Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        errors.iter().map(|line| (line["error"]["line"].clone(), line["error"]["code"].clone())).collect();
    let expected = [(1, "invalid_json"), (6, "duplicate_id"), (7, "line_too_long")];
    assert_eq!(told, expected.map(|(line, code)| (line.into(), code.into())));
}

#[test]
fn an_account_without_money_stops_the_batch_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let broke = r#"{"cap": 4, "service": {"time": 0.01}, "windows": [{"status": 402, "from": 0}]}"#;
    let (code, summary) = finish(simulate(&dir, 500, broke).output().unwrap());
    assert_eq!((code, &summary["status"]), (3, &Value::from("stopped")), "{summary}");
    assert!(summary["reason"].as_str().unwrap().contains("money"), "{summary}");
    assert!(summary["attempts"].as_u64().unwrap() < 100, "{summary}");
}

#[test]
fn a_model_that_does_not_exist_stops_the_batch_which_is_mended_or_goes_on_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let (code, summary) = finish(simulate(&dir, 500, QUICK).args(["--model", "deepsink"]).output().unwrap());
    assert_eq!((code, &summary["status"]), (3, &Value::from("stopped")), "{summary}");
    let reason = summary["reason"].as_str().unwrap();
    assert!(reason.contains("failed in the same words (status 400): The supported API model names are"), "{reason}");
    let failed = summary["failed"].as_u64().unwrap();
    assert!((50..500).contains(&failed), "{summary}");
    let told = simulate(&dir, 500, QUICK).args(["--model", "deepsink", "--keep-going"]).output().unwrap();
    let (code, summary) = finish(told);
    assert_eq!((code, &summary["failed"]), (1, &Value::from(500)), "{summary}");

    let (code, summary) = finish(simulate(&dir, 500, QUICK).output().unwrap());
    assert_eq!(code, 0, "{summary}");
    assert_eq!(answered(&dir), all(500));
    // The output shows that not everything is wrong.
    let more: String = (500..700).map(|n| format!("{{\"id\":\"id-{n}\",\"prompt\":\"number {n}\"}}\n")).collect();
    let mut command = simulate(&dir, 0, QUICK);
    fs::write(dir.path().join("in.jsonl"), more).unwrap();
    let (code, summary) = finish(command.args(["--model", "deepsink"]).output().unwrap());
    assert_eq!((code, &summary["failed"]), (1, &Value::from(200)), "{summary}");
}

#[test]
fn a_key_that_may_not_do_this_stops_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let url =
        serve("HTTP/1.1 403 Forbidden\r\ncontent-length: 24\r\nconnection: close\r\n\r\nreal-name check, please!");
    let mut command = tidegate(&dir, &["batch", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--json"]);
    let input: String = (0..500).map(|n| format!("{{\"id\":\"id-{n}\",\"prompt\":\"number {n}\"}}\n")).collect();
    fs::write(dir.path().join("in.jsonl"), input).unwrap();
    let (code, summary) = finish(command.args(["--base-url", &url]).output().unwrap());
    assert_eq!((code, &summary["status"]), (3, &Value::from("stopped")), "{summary}");
    assert!(summary["reason"].as_str().unwrap().starts_with("the key may not do this"), "{summary}");
    assert!(summary["failed"].as_u64().unwrap() < 500, "{summary}");
}

#[test]
fn one_line_on_a_dead_network_is_the_providers_fault_not_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there once the listener is dropped.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{addr}");
    let args = ["batch", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--json", "--max-attempts", "1"];
    let output = tidegate(&dir, &args).args(["--base-url", &url]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("OPENAI_API_KEY is not set"), "{told}");
    let (code, summary) = finish(output);
    assert_eq!((code, &summary["status"]), (3, &Value::from("stopped")), "{summary}");
    assert_eq!(summary["failed"], 1);
}

#[test]
fn an_answer_that_makes_no_sense_stands_in_the_error_file_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve("HTTP/1.1 200 OK\r\ncontent-length: 16\r\nconnection: close\r\n\r\n<html>Hi!</html>");
    let args = ["batch", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--json", "--max-attempts", "2"];
    let (code, summary) = finish(tidegate(&dir, &args).args(["--base-url", &url]).output().unwrap());
    assert_eq!((code, &summary["failed"]), (1, &Value::from(1)), "{summary}");
    let errors = fs::read_to_string(dir.path().join("out.errors.jsonl")).unwrap();
    let line: Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(
        (&line["response"]["status_code"], &line["response"]["body"]),
        (&200.into(), &"<html>Hi!</html>".into())
    );
    assert_eq!(line["error"]["code"], "malformed");
}

#[test]
fn standard_input_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = simulate(&dir, 20, QUICK);
    let input = fs::read(dir.path().join("in.jsonl")).unwrap();
    let args = ["batch", "-", "-o", "out.jsonl", "--quiet", "--json", "--simulate", "--scenario", "scenario.json"];
    command = {
        let mut piped = Command::new(command.get_program());
        piped.current_dir(dir.path()).args(args).stdin(Stdio::piped());
        piped
    };
    let mut child = start(&mut command);
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let (code, summary) = finish(child.wait_with_output().unwrap());
    assert_eq!((code, &summary["total"]), (0, &Value::Null), "{summary}");
    assert_eq!(answered(&dir), all(20));
}

#[cfg(unix)]
mod unix {
    use super::*;

    #[test]
    fn a_file_that_the_programs_own_words_go_to_is_refused() {
        for (file, part) in [
            ("out.jsonl", "out.jsonl: is named twice, as standard output and as output"),
            ("out.errors.jsonl", "out.errors.jsonl: is named twice, as standard error and as errors"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = simulate(&dir, 1, QUICK);
            let stream = fs::File::create(dir.path().join(file)).unwrap();
            let output = match file {
                "out.jsonl" => command.stdout(stream).output().unwrap(),
                _ => command.stderr(stream).output().unwrap(),
            };
            assert_eq!(output.status.code(), Some(2), "{file}");
            let mut said = String::from_utf8(output.stderr).unwrap();
            said += &fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn an_error_file_that_is_a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("out.errors.jsonl");
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        let (code, summary) = finish(simulate(&dir, 1, QUICK).output().unwrap());
        assert_eq!((code, &summary["errors"]), (0, &Value::from("out.errors.jsonl")), "{summary}");
        assert!(link.is_symlink());
        assert_eq!(fs::read(dir.path().join("elsewhere")).unwrap(), b"");
    }

    fn interrupt(child: &Child) {
        signalled(child, "-INT");
    }

    fn signalled(child: &Child, signal: &str) {
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// `nohup` and the like have it ignored, and who is started from there inherits that.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_closed_terminal_lets_what_is_in_flight_end_unless_it_is_ignored() {
        // Many enough not to be done before the signal, or few enough to be waited for.
        for (ignored, code, count) in [(false, 130, 600), (true, 0, 60)] {
            let dir = tempfile::tempdir().unwrap();
            let command = simulate(&dir, count, SLOW);
            let mut started = Command::new("sh");
            let before = if ignored { "trap '' HUP; exec \"$0\" \"$@\"" } else { "exec \"$0\" \"$@\"" };
            started.args(["-c", before]).arg(command.get_program()).args(command.get_args()).current_dir(dir.path());
            let child = start(&mut started);
            until_answers(&dir, 3);
            // One closed terminal is often told twice.
            signalled(&child, "-HUP");
            signalled(&child, "-HUP");
            let (ended, summary) = finish(child.wait_with_output().unwrap());
            if !ignored && ended == 0 && hangups_are_ignored_here() {
                continue;
            }
            assert_eq!(ended, code, "{summary}");
            let (sent, rejected) = (summary["attempts"].as_u64().unwrap(), summary["rejected"].as_u64().unwrap());
            assert_eq!(
                summary["answered"].as_u64().unwrap(),
                sent - rejected,
                "what was in flight was let end: {summary}"
            );
        }
    }

    /// As when the tests themselves run under `nohup`.
    #[cfg(target_os = "linux")]
    fn hangups_are_ignored_here() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u128::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
    }

    /// Standard error as `2>&1 | head` leaves it: a pipe that nobody reads any more.
    fn closed() -> std::io::PipeWriter {
        std::io::pipe().unwrap().1
    }

    #[test]
    fn who_reads_standard_error_no_more_costs_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = simulate(&dir, 3, QUICK);
        let path = dir.path().join("in.jsonl");
        fs::write(&path, format!("no JSON\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        let (code, summary) = finish(command.stderr(closed()).output().unwrap());
        assert_eq!((code, &summary["bad_lines"]), (1, &Value::from(1)), "{summary}");
        assert_eq!(answered(&dir), all(3));
        let refused = tidegate(&dir, &["batch", "missing.jsonl", "-o", "out.jsonl"]).stderr(closed()).status().unwrap();
        assert_eq!(refused.code(), Some(2));
    }

    #[test]
    fn the_simulation_tells_what_it_saw_however_it_is_asked_to_end() {
        for signal in ["-INT", "-TERM"] {
            let dir = tempfile::tempdir().unwrap();
            let mut child = start(&mut tidegate(&dir, &["sim", "--listen", "127.0.0.1:0", "--json"]));
            let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
            let mut said = String::new();
            while !said.contains("Ctrl-C") {
                assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
            }
            signalled(&child, signal);
            let (code, tally) = finish(child.wait_with_output().unwrap());
            assert_eq!((code, &tally["requests"]), (0, &Value::from(0)), "{signal}: {tally}");
        }
    }

    #[test]
    fn the_first_ctrl_c_drains_and_the_next_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let child = start(&mut simulate(&dir, 60, SLOW));
        until_answers(&dir, 3);
        interrupt(&child);
        let (code, summary) = finish(child.wait_with_output().unwrap());
        assert_eq!((code, &summary["status"]), (130, &Value::from("interrupted")), "{summary}");
        let (sent, rejected) = (summary["attempts"].as_u64().unwrap(), summary["rejected"].as_u64().unwrap());
        assert_eq!(summary["answered"].as_u64().unwrap(), sent - rejected, "what was in flight was let end: {summary}");

        let (code, summary) = finish(simulate(&dir, 60, QUICK).output().unwrap());
        assert_eq!(code, 0, "{summary}");
        assert_eq!(answered(&dir), all(60));
    }

    #[test]
    fn the_second_ctrl_c_gives_up_what_is_in_flight() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(&mut simulate(&dir, 60, STUCK));
        until_answers(&dir, 1);
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        interrupt(&child);
        let mut said = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
        assert!(said.starts_with("Stopping"), "{said}");
        interrupt(&child);
        let (code, summary) = finish(child.wait_with_output().unwrap());
        assert_eq!((code, &summary["status"]), (130, &Value::from("interrupted")), "{summary}");
        assert_eq!(answered(&dir).len() as u64, summary["answered"].as_u64().unwrap());
    }

    #[test]
    fn a_full_disk_stops_the_batch_with_whole_lines_and_the_next_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let command = simulate(&dir, 60, QUICK);
        // A limit on the size of files stands in for the disk: 8 kB (or 4, as shells count).
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(command.get_program());
        limited.args(command.get_args()).current_dir(dir.path());
        let (code, summary) = finish(limited.output().unwrap());
        assert_eq!((code, &summary["status"]), (3, &Value::from("stopped")), "{summary}");
        assert!(summary["reason"].as_str().unwrap().starts_with("the output can't be written"), "{summary}");
        assert!(summary["lost_answers"].as_u64().unwrap() > 0, "{summary}");
        assert_eq!(summary["simulation"]["answered_twice"], 0, "lost is not paid twice: {summary}");
        assert_eq!(answered(&dir).len() as u64, summary["answered"].as_u64().unwrap());

        let (code, summary) = finish(simulate(&dir, 60, QUICK).output().unwrap());
        assert_eq!(code, 0, "{summary}");
        assert_eq!(answered(&dir), all(60));
    }
}
