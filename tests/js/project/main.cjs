const tidegate = require("tidegate");
const { check } = require("./check.js");
const { default: expected } = require("./expected.js");

check(tidegate, expected).then(console.log);
