// The console's page: plain modules, nothing built, nothing loaded from elsewhere.

import { startExperiments } from "./experiments.js";
import { startLive } from "./live.js";
import { startRace } from "./race.js";
import { startSql } from "./sql.js";

startRace();
startLive();
startExperiments();
startSql();
