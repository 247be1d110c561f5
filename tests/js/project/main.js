import * as tidegate from "tidegate";
import { check } from "./check.js";
import provider from "./provider.js";

check(tidegate, provider).then(console.log);
