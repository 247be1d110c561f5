import "./suite/globals.js";
import OpenAI from "openai";
import * as tidegate from "tidegate";
import { runAll } from "./suite/index.js";
import where from "./where.js";

runAll({ tidegate, OpenAI, ...where });
