//! The simulator's answers against recordings of the real service: everything it sends has the fields, and the types of
//! fields, of something DeepSeek sent. Needs the recordings (`TIDEGATE_TEST_DATA`).
#![cfg(all(feature = "sim", feature = "client"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate::sim::{Scenario, Server};

/// The fields of a JSON value and their types, without what they say.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(items) => {
            let shapes: BTreeSet<_> = items.iter().map(shape).collect();
            format!("[{}]", shapes.into_iter().collect::<Vec<_>>().join("|"))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{}", shape(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// The objects in a body: its events, or itself.
fn objects(body: &str) -> Vec<Value> {
    if let Ok(object) = serde_json::from_str(body) {
        return vec![object];
    }
    body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

fn recordings() -> Option<PathBuf> {
    let folder = std::env::var_os("TIDEGATE_TEST_DATA").map(|data| Path::new(&data).join("captures"));
    if folder.is_none() {
        eprintln!("NOT RUN: set TIDEGATE_TEST_DATA to the folder that holds `captures`");
    }
    folder
}

fn recorded_shapes(folder: &Path) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("deepseek__") && !name.ends_with(".meta.json") {
            files += 1;
            shapes.extend(objects(&String::from_utf8_lossy(&std::fs::read(&path).unwrap())).iter().map(shape));
        }
    }
    assert!(files > 50, "only {files} recordings of DeepSeek in {}", folder.display());
    shapes
}

#[tokio::test]
async fn everything_it_sends_has_the_shape_of_something_recorded() {
    let Some(folder) = recordings() else { return };
    let recorded = recorded_shapes(&folder);
    let mut scenario = Scenario::default().with_service_time(0.02);
    scenario.service.first_token = 0.01.into();
    let server = Server::start(scenario, 1, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let tools = json!([{"type": "function", "function": {"name": "look_up", "parameters": {
        "type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}}}]);
    let mut compared = 0;
    for thinking in ["enabled", "disabled"] {
        for tool in [false, true] {
            for stream in [false, true] {
                for model in ["deepseek-flash", "deepseek-v9"] {
                    let mut body = json!({
                        "model": model, "stream": stream, "thinking": {"type": thinking},
                        "messages": [{"role": "user", "content": "Please look_up the tide table."}],
                    });
                    if tool {
                        body["tools"] = tools.clone();
                    }
                    let request = client.post(format!("{}/chat/completions", server.url())).bearer_auth("sk-any-key");
                    let text = request.body(body.to_string()).send().await.unwrap().text().await.unwrap();
                    let objects = objects(&text);
                    assert!(!objects.is_empty(), "{text}");
                    for object in objects {
                        let shape = shape(&object);
                        assert!(recorded.contains(&shape), "{model} thinking {thinking}: never recorded: {shape}");
                        compared += 1;
                    }
                }
            }
        }
    }
    let models = client.get(format!("{}/models", server.url())).bearer_auth("sk-any-key").send().await.unwrap();
    assert!(recorded.contains(&shape(&serde_json::from_str(&models.text().await.unwrap()).unwrap())));
    println!("{compared} objects compared with {} recorded shapes", recorded.len());
}
