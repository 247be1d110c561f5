// Only whether the core starts: the page's policy may forbid it.
import { Tidegate } from "tidegate";
import { tell } from "./suite/support.js";
import where from "./where.js";

let error;
try {
  new Tidegate({ baseURL: "http://127.0.0.1:9" });
} catch (thrown) {
  error = `${thrown}`;
}
tell(`${where.control}/results/${where.runtime}`, { name: "start", error }).then(() =>
  tell(`${where.control}/results/${where.runtime}`, { over: true }),
);
