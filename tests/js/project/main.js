import "./suite/globals.js";
import OpenAI from "openai";
import * as tidegate from "tidegate";
import { openaiOptions } from "tidegate/openai";
import { runAll } from "./suite/index.js";
import where from "./where.js";

runAll({ tidegate, OpenAI, openaiOptions, ...where });
