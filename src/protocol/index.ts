/**
 * The wire protocol as pure values and functions: no services, no input or output.
 *
 * @since 0.1.0
 */
export * as AnswerRules from "./AnswerRules.js"
export * as BundleHash from "./BundleHash.js"
export * as CanonicalJson from "./CanonicalJson.js"
export * as Dialect from "./Dialect.js"
export * as ExactJson from "./ExactJson.js"
export * as JsonText from "./JsonText.js"
export * as RowPayload from "./RowPayload.js"
export * as SyncKey from "./SyncKey.js"
export * as Timestamp from "./Timestamp.js"
export * as Wire from "./Wire.js"
export * as WireError from "./WireError.js"
