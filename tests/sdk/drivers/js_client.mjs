// The program that drives @statsig/js-client, in Node and in a browser alike.
import { reports } from './reports.mjs';

/** Starts a client from `job.values`, what a server SDK computed by userID; returns what obeys a command. */
export function begin(StatsigClient, job, tell) {
  const { exposed, logged } = reports(tell);
  const userOf = (told) => ({
    ...(told.userID && { userID: told.userID }),
    ...(told.stableID && { customIDs: { stableID: told.stableID } }),
    country: told.country,
    privateAttributes: { secret_plan: told.secret },
  });
  const [first] = job.users;
  const client = new StatsigClient(job.client_key, userOf(first), {
    networkConfig: {
      logEventUrl: `${job.gateway}/v1/rgstr`,
      sdkExceptionUrl: `${job.gateway}/v1/sdk_exception`,
      api: `${job.gateway}/v1`,
    },
    loggingEnabled: 'always',
    logLevel: 0,
  });
  client.dataAdapter.setData(job.values[first.userID]);
  client.initializeSync();

  async function become(told) {
    // What is still queued would be sent under the next visitor's stableID.
    await client.flush();
    client.dataAdapter.setData(job.values[told.userID]);
    client.updateUserSync(userOf(told));
  }

  function seeAll(told) {
    const unit = (by) => told[by] || (by === 'userID' ? '' : client.getContext().stableID);
    for (const [name, by] of job.gates) {
      const gate = client.getFeatureGate(name);
      exposed('gate', name, unit(by), gate.ruleID, { value: gate.value });
    }
    for (const [name, by] of job.configs) {
      exposed('dynamic_config', name, unit(by), client.getDynamicConfig(name).ruleID);
    }
    for (const [name, by] of job.experiments) {
      const experiment = client.getExperiment(name);
      exposed('experiment', name, unit(by), experiment.ruleID, { group: experiment.groupName });
    }
    for (const [name, parameters] of job.layers) {
      const layer = client.getLayer(name);
      for (const parameter of parameters) {
        layer.get(parameter, '');
        exposed('layer', name, told.userID, layer.ruleID, { parameter });
      }
    }
  }

  function logAll(told) {
    for (const [name, value] of job.events) {
      const own_id = `${told.userID || told.stableID}-${name}`;
      client.logEvent({ eventName: name, value, metadata: { own_id } });
      logged(name, own_id, value);
    }
  }

  client.on('error', (event) => tell({ error: String(event.error ?? event.tag) }));
  return async (command) => {
    if (command.do === 'all') {
      for (const told of job.users) {
        await become(told);
        seeAll(told);
        logAll(told);
      }
    } else if (command.do === 'events') {
      for (const told of command.users) logAll(told);
    } else if (command.do === 'flush') {
      // It settles when the batch was answered well or put back after three tries; nobody waits for that.
      client.flush();
    } else if (command.do === 'stop') {
      await client.shutdown();
    }
  };
}
