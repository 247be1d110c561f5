/** The line that `project/check.js` ends with: an exit code of 0 alone would not show that anything ran. */
export const works = "tidegate works here";

export function expectWorks(output) {
  if (!output.includes(works)) throw new Error(`expected "${works}", got:\n${output}`);
}
