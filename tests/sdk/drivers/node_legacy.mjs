// Drives statsig-node, the legacy server SDK of npm.
import statsig from 'statsig-node';

import { obey, say } from './lines.mjs';
import { reports } from './reports.mjs';

const Statsig = statsig.default ?? statsig;
const { exposed, logged } = reports(say);

const userOf = (told) => ({
  userID: told.userID,
  customIDs: { stableID: told.stableID },
  country: told.country,
  privateAttributes: { secret_plan: told.secret },
});

function seeAll(job, told) {
  const user = userOf(told);
  for (const [name, by] of job.gates) {
    const gate = Statsig.getFeatureGate(user, name);
    exposed('gate', name, told[by], gate.ruleID, { value: gate.value });
  }
  for (const [name, by] of job.configs) {
    exposed('dynamic_config', name, told[by], Statsig.getConfig(user, name).getRuleID());
  }
  for (const [name, by] of job.experiments) {
    const experiment = Statsig.getExperiment(user, name);
    exposed('experiment', name, told[by], experiment.getRuleID(), { group: experiment.getGroupName() });
  }
  for (const [name, parameters] of job.layers) {
    const layer = Statsig.getLayer(user, name);
    for (const parameter of parameters) {
      layer.get(parameter, '');
      exposed('layer', name, told.userID, layer.getRuleID(), { parameter });
    }
  }
}

function seeAllByHand(job, told) {
  const user = userOf(told);
  const [gate, experiment, config, [layer, parameter]] = job.by_hand;
  const silently = { disableExposureLogging: true };
  const more = { by_hand: true };
  const shown = Statsig.getFeatureGate(user, gate, silently);
  Statsig.manuallyLogGateExposure(user, gate);
  exposed('gate', gate, told.userID, shown.ruleID, { ...more, value: shown.value });
  Statsig.manuallyLogExperimentExposure(user, experiment);
  exposed('experiment', experiment, told.userID, Statsig.getExperiment(user, experiment, silently).getRuleID(), more);
  Statsig.manuallyLogConfigExposure(user, config);
  exposed('dynamic_config', config, told.userID, 'default', more);
  Statsig.manuallyLogLayerParameterExposure(user, layer, parameter);
  exposed('layer', layer, told.userID, Statsig.getLayer(user, layer, silently).getRuleID(), { ...more, parameter });
}

function logAll(job, told) {
  for (const [name, value] of job.events) {
    const own_id = `${told.userID || told.stableID}-${name}`;
    Statsig.logEvent(userOf(told), name, value, { own_id, nested: { a: [1, null] } });
    logged(name, own_id, value);
  }
}

obey(async (job) => {
  const silent = () => undefined;
  await Statsig.initialize(job.secret_key, {
    api: `${job.gateway}/v1`,
    initStrategyForIP3Country: 'none',
    rulesetsSyncIntervalMs: (job.sync_s ?? 10) * 1000,
    logger: { warn: silent, error: silent, logLevel: 'none' },
  });
  return async (command) => {
    if (command.do === 'all') {
      for (const told of job.users) {
        seeAll(job, told);
        logAll(job, told);
      }
      seeAllByHand(job, job.by_hand_user);
      logAll(job, job.nobody);
    } else if (command.do === 'see') {
      for (const told of command.users) seeAll(job, told);
    } else if (command.do === 'events') {
      for (const told of command.users) {
        const name = job.experiments[0][0];
        exposed('experiment', name, told.userID, Statsig.getExperiment(userOf(told), name).getRuleID());
        logAll(job, told);
      }
    } else if (command.do === 'gate') {
      for (const told of command.users) {
        const gate = Statsig.getFeatureGate(userOf(told), command.gate);
        exposed('gate', command.gate, told.userID, gate.ruleID, { value: gate.value });
      }
    } else if (command.do === 'flush') {
      // It settles when the batch was answered well or given up, minutes later; nobody waits for that.
      Statsig.flush();
    } else if (command.do === 'stop') {
      await Statsig.shutdownAsync();
    }
  };
});
