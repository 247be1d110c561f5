// What must hold in every runtime. Takes the package as the runtime imported it, and where a simulated provider listens.
export async function check({ Tidegate }, { url }) {
  const client = new Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: url, dangerouslyAllowBrowser: true });
  const ask = (content) => ({ model: "deepseek-flash", messages: [{ role: "user", content }] });
  const expect = (held, what) => {
    if (!held) throw new Error(`expected ${what}`);
  };

  const answer = await client.chat.completions.create(ask("Why do tides come twice a day?"));
  expect(answer.choices[0].message.content.length > 0, "an answer");
  expect(answer.choices[0].finish_reason === "stop", "an answer that came whole");

  const stream = await client.chat.completions.create({ ...ask("And why not at noon?"), stream: true });
  let chunks = 0;
  let reason;
  for await (const chunk of stream) {
    chunks += 1;
    reason = chunk.choices[0]?.finish_reason ?? reason;
  }
  expect(chunks > 2, "a stream in pieces");
  expect(reason === "stop", "a stream that came whole");

  const calls = Array.from({ length: 20 }, (_, n) => client.chat.completions.create(ask(`Which of the ${n} seas?`)));
  expect((await Promise.all(calls)).length === 20, "all of many calls at once to be answered");
  expect(client.metrics().total.completed === 22, "every call to be counted");

  await client.close();
  return "tidegate works here";
}
