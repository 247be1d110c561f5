//! One question, one answer. Needs a key: `DEEPSEEK_API_KEY=… cargo run --example chat -- "Why is the sea salty?"`

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), tidegate::Error> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "Why do tides come twice a day?".into());
    let client = tidegate::Client::from_env()?;

    let reply = client.chat("deepseek-flash").system("Answer in one sentence.").user(question).send().await?;

    println!("{}", reply.content().unwrap_or_default());
    eprintln!("{} attempt(s), {:.1?}, usage {:?}", reply.report().attempts_made, reply.elapsed(), reply.usage);
    Ok(())
}
