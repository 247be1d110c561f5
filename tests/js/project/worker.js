// A Worker: each request makes the same check.
import * as tidegate from "tidegate";
import { check } from "./check.js";
import provider from "./provider.js";

export default {
  async fetch() {
    return new Response(await check(tidegate, provider), { headers: { "content-type": "text/plain" } });
  },
};
