require("./suite/globals.js");
const OpenAI = require("openai");
const tidegate = require("tidegate");
const { runAll } = require("./suite/index.js");
const { default: where } = require("./where.js");

runAll({ tidegate, OpenAI, ...where });
