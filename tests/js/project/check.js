// What must hold in every runtime. Takes the package as the runtime imported it.
export async function check(tidegate, expected) {
  const version = tidegate.version();
  if (version !== expected.version) throw new Error(`the core is of version ${version}, the package ${expected.version}`);
  return "tidegate works here";
}
