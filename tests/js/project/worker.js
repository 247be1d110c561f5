// A Worker: each request makes the same check.
import * as tidegate from "tidegate";
import { check } from "./check.js";
import expected from "./expected.js";

export default {
  async fetch() {
    return new Response(await check(tidegate, expected), { headers: { "content-type": "text/plain" } });
  },
};
