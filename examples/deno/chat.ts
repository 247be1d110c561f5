// A chat in the terminal: `deno task chat`. Needs DEEPSEEK_API_KEY, and no permissions but for the net and its variables.
import process from "node:process";
import { createInterface } from "node:readline";
import { type ChatMessage, Tidegate, TidegateError } from "tidegate";

const client = new Tidegate();
const messages: ChatMessage[] = [];
const write = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(text));

write("> ");
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === "") continue;
  messages.push({ role: "user", content: line });
  try {
    const stream = await client.chat.completions.create(
      { model: "deepseek-flash", messages, thinking: { type: "enabled" }, stream: true },
      { workload: "interactive" },
    );
    const { choices } = await stream.finalCompletion((chunk) => {
      const delta = chunk.choices[0]?.delta;
      if (delta?.reasoning_content) write(`\x1b[2m${delta.reasoning_content}\x1b[0m`);
      if (delta?.content) write(delta.content);
    });
    // Without its reasoning, which the model does not read again.
    messages.push({ role: "assistant", content: choices[0].message.content });
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    // What broke off has been shown; the question may be asked again.
    messages.pop();
    console.error(`\n${error.message}`);
  }
  write("\n> ");
}
await client.close();
