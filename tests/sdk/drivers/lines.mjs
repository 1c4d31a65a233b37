// How a driver is told what to do, and how it says what it did: JSON lines on its standard streams.
// The first line is the job, every later one a command: {"do": "all" | "events" | "gate" | "flush" | "stop", …}.
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Says one thing, at once: what was said is there even if the process ends now. */
export function say(line) {
  let rest = Buffer.from(JSON.stringify(line) + '\n');
  while (rest.length) {
    // A pipe takes so much at once, and none while it is full.
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

/** Calls `begin(job)`, then what it returned with every command, and answers each when it has been done. */
export async function obey(begin) {
  console.log = console.info = console.debug = console.error;
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    return done ? { do: 'end' } : JSON.parse(value);
  };
  const obeyed = await begin(await next());
  say({ did: 'start' });
  for (;;) {
    const command = await next();
    if (command.do === 'end') break;
    await obeyed(command);
    say({ did: command.do });
    if (command.do === 'stop') break;
  }
  process.exit(0);
}
