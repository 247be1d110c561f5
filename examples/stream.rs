//! A streamed answer with its reasoning, as a chat shows it. Needs a key, or any server that speaks the protocol:
//! `DEEPSEEK_BASE_URL=http://127.0.0.1:8080/v1 cargo run --example stream -- "Tell me a story"`

use std::io::Write;

use tidegate::{Client, ErrorKind};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), tidegate::Error> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "Why do tides come twice a day?".into());
    let client = Client::from_env()?;

    let mut stream = client.chat("deepseek-flash").user(question).workload("interactive").stream().await?;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                eprint!("{}", chunk.reasoning().unwrap_or_default());
                print!("{}", chunk.content().unwrap_or_default());
                let _ = std::io::stdout().flush();
            }
            // What was shown is not silently asked for again; here is where to decide.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                let shown = error.partial().map_or(0, |partial| partial.text.len());
                eprintln!("\n[broke off after {shown} bytes: {error}]");
            }
            Err(error) => return Err(error),
        }
    }
    println!();
    Ok(())
}
