/** The compiled core, where a host compiles `.wasm` imports. For `setCoreModule`. */
declare const module: object;
export default module;
