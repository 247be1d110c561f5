require("./suite/globals.js");
const OpenAI = require("openai");
const tidegate = require("tidegate");
const { openaiOptions } = require("tidegate/openai");
const { runAll } = require("./suite/index.js");
const { default: where } = require("./where.js");

runAll({ tidegate, OpenAI, openaiOptions, ...where });
