import * as tidegate from "tidegate";
import { check } from "./check.js";
import expected from "./expected.js";

check(tidegate, expected).then(console.log);
