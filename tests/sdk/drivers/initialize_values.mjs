// What a server computes for js-client to start from: one JSON object, by userID. Its standard input is the job.
import { text } from 'node:stream/consumers';

import statsig from 'statsig-node';

import { say } from './lines.mjs';

const Statsig = statsig.default ?? statsig;
const job = JSON.parse(await text(process.stdin));
await Statsig.initialize(job.secret_key, { api: `${job.gateway}/v1`, initStrategyForIP3Country: 'none', disableAllLogging: true });
const values = {};
for (const told of job.users) {
  const user = {
    userID: told.userID,
    customIDs: told.stableID ? { stableID: told.stableID } : {},
    country: told.country,
    privateAttributes: { secret_plan: told.secret },
  };
  values[told.userID] = JSON.stringify(Statsig.getClientInitializeResponse(user, job.client_key, { hash: 'djb2' }));
}
say(values);
process.exit(0);
