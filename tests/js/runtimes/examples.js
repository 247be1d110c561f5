// The examples, run as their README says.
import { browser } from "../examples/browser.js";

export default [{ name: "example-browser", run: browser }];
