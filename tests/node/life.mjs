// The life of a job through the official Node client: `node life.mjs begin` and, once the job has ended, `node life.mjs end JOB`.
// Says what it saw as one line of JSON. Where the service is, and the key, come from OPENAI_BASE_URL and OPENAI_API_KEY.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const [step, jobId] = process.argv.slice(2);

async function all(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

async function begin() {
  const rows = Array.from({ length: 200 }, (_, i) =>
    JSON.stringify({
      messages: [
        { role: "user", content: `Add 1 and ${i}.` },
        { role: "assistant", content: `${i + 1}` },
      ],
    }),
  );
  const file = await client.files.create({ file: await toFile(Buffer.from(rows.join("\n")), "rows.jsonl"), purpose: "fine-tune" });
  const job = await client.fineTuning.jobs.create({
    model: "from-teacher:1",
    training_file: file.id,
    hyperparameters: { n_epochs: 2 },
    metadata: { from: "node" },
    teacher: { tiny: "gpt2" },
    distillation: { preset: "kld" },
  });
  const paused = await client.fineTuning.jobs.pause(job.id);
  await client.fineTuning.jobs.resume(job.id);
  const listed = await all(client.fineTuning.jobs.list({ limit: 1, metadata: { from: "node" } }));
  let refused = null;
  try {
    await client.fineTuning.jobs.retrieve("ftjob-none");
  } catch (error) {
    refused = [error instanceof OpenAI.NotFoundError, error.status, error.code];
  }
  return { job: job.id, teacher: job.teacher, paused: paused.distillation.state, listed: listed.map((one) => one.id), refused };
}

async function end() {
  const job = await client.fineTuning.jobs.retrieve(jobId);
  const events = await all(client.fineTuning.jobs.listEvents(jobId, { limit: 2 }));
  const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(jobId, { limit: 1 }));
  const files = await Promise.all(job.result_files.map((id) => client.files.retrieve(id)));
  const weights = files.find((file) => file.filename.endsWith("model.tar"));
  const content = await client.files.content(weights.id);
  const messages = [{ role: "user", content: "say one two three" }];
  const whole = await client.chat.completions.create({ model: job.fine_tuned_model, messages });
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ model: job.fine_tuned_model, messages, stream: true })) {
    streamed += chunk.choices[0].delta.content ?? "";
  }
  return {
    status: job.status,
    seqs: events.map((event) => event.data.seq),
    steps: checkpoints.map((checkpoint) => checkpoint.step_number),
    bytes: [(await content.arrayBuffer()).byteLength, weights.bytes],
    models: (await all(client.models.list())).map((model) => model.id),
    said: [whole.choices[0].message.content, streamed, whole.usage.completion_tokens],
  };
}

console.log(JSON.stringify(await (step === "begin" ? begin() : end())));
