// The component's surface: joins the decisions in plugin.js to the interfaces of wit/plugin.wit.
//
// It stands apart since Node cannot resolve the import below, so that the tests load plugin.js alone.
import log from "aiproxy:plugin/log@0.1.0";

import { configure, decide } from "./plugin.js";

export const channel = {
  configure: (config) => configure(config, (message) => log.log("info", message)),
  decide,
};
