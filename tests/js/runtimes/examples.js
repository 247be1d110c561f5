// The examples, run as their README says.
import { browserExample } from "../examples/browser.js";

export default [{ name: "example-browser", run: browserExample }];
