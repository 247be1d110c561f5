const tidegate = require("tidegate");
const { check } = require("./check.js");
const { default: provider } = require("./provider.js");

check(tidegate, provider).then(console.log);
