// Drives @statsig/js-client in Node.
import jsClient from '@statsig/js-client';

import { begin } from './js_client.mjs';
import { obey, say } from './lines.mjs';

obey(async (job) => begin(jsClient.StatsigClient, job, say));
