import module from "tidegate/core.wasm";
import { CoreUnavailableError, setCoreModule, version } from "tidegate";

setCoreModule(module);
export const said: string = version();
export const known: boolean = new Error() instanceof CoreUnavailableError;
