// Drives @statsig/statsig-node-core.
import { Statsig, StatsigUser } from '@statsig/statsig-node-core';

import { obey, say } from './lines.mjs';
import { reports } from './reports.mjs';

const { exposed, logged } = reports(say);

const userOf = (told) =>
  new StatsigUser({
    userID: told.userID,
    customIDs: { stableID: told.stableID },
    country: told.country,
    privateAttributes: { secret_plan: told.secret },
  });

function seeAll(sdk, job, told) {
  const user = userOf(told);
  for (const [name, by] of job.gates) {
    const gate = sdk.getFeatureGate(user, name);
    exposed('gate', name, told[by], gate.ruleID, { value: gate.value });
  }
  for (const [name, by] of job.configs) {
    exposed('dynamic_config', name, told[by], sdk.getDynamicConfig(user, name).ruleID);
  }
  for (const [name, by] of job.experiments) {
    const experiment = sdk.getExperiment(user, name);
    exposed('experiment', name, told[by], experiment.ruleID, { group: experiment.groupName });
  }
  for (const [name, parameters] of job.layers) {
    const layer = sdk.getLayer(user, name);
    for (const parameter of parameters) {
      layer.get(parameter, '');
      exposed('layer', name, told.userID, layer.ruleID, { parameter });
    }
  }
}

function seeAllByHand(sdk, job, told) {
  const user = userOf(told);
  const [gate, experiment, config, [layer, parameter]] = job.by_hand;
  const silently = { disableExposureLogging: true };
  const more = { by_hand: true };
  const shown = sdk.getFeatureGate(user, gate, silently);
  sdk.manuallyLogFeatureGateExposure(user, gate);
  exposed('gate', gate, told.userID, shown.ruleID, { ...more, value: shown.value });
  sdk.manuallyLogExperimentExposure(user, experiment);
  exposed('experiment', experiment, told.userID, sdk.getExperiment(user, experiment, silently).ruleID, more);
  sdk.manuallyLogDynamicConfigExposure(user, config);
  exposed('dynamic_config', config, told.userID, 'default', more);
  sdk.manuallyLogLayerParamExposure(user, layer, parameter);
  exposed('layer', layer, told.userID, sdk.getLayer(user, layer, silently).ruleID, { ...more, parameter });
}

function logAll(sdk, job, told) {
  for (const [name, value] of job.events) {
    const own_id = `${told.userID || told.stableID}-${name}`;
    sdk.logEvent(userOf(told), name, value, { own_id, n: 1 });
    logged(name, own_id, value);
  }
}

obey(async (job) => {
  const sdk = new Statsig(job.secret_key, {
    specsUrl: `${job.gateway}/v2/download_config_specs`,
    logEventUrl: `${job.gateway}/v1/log_event`,
    idListsUrl: `${job.gateway}/v1/get_id_lists`,
    enableIdLists: true,
    specsSyncIntervalMs: (job.sync_s ?? 10) * 1000,
    outputLogLevel: 'none', // its log goes to standard output, which is the lines'
    disableCountryLookup: true,
    observabilityClient: {
      // Typed as (tag, error), called with a null before them.
      error: (...told) => told.some((one) => `${one}`.endsWith('log_event_failed')) && say({ gave_up: told.join(' ') }),
    },
  });
  await sdk.initialize();
  return async (command) => {
    if (command.do === 'all') {
      for (const told of job.users) {
        seeAll(sdk, job, told);
        logAll(sdk, job, told);
      }
      seeAllByHand(sdk, job, job.by_hand_user);
      logAll(sdk, job, job.nobody);
    } else if (command.do === 'see') {
      for (const told of command.users) seeAll(sdk, job, told);
    } else if (command.do === 'events') {
      for (const told of command.users) {
        const name = job.experiments[0][0];
        exposed('experiment', name, told.userID, sdk.getExperiment(userOf(told), name).ruleID);
        logAll(sdk, job, told);
      }
    } else if (command.do === 'gate') {
      for (const told of command.users) {
        const gate = sdk.getFeatureGate(userOf(told), command.gate);
        exposed('gate', command.gate, told.userID, gate.ruleID, { value: gate.value });
      }
    } else if (command.do === 'flush') {
      await sdk.flushEvents();
    } else if (command.do === 'stop') {
      await sdk.shutdown();
    }
  };
});
