export { PRICE_LAYERS, type PriceEntry, type PriceLayer, type StoredPrice } from "#store";
export * from "./price-book.ts";
export * from "./price-changes.ts";
export {
  entriesOf,
  listEntryFaults,
  pathOf,
  type PriceList,
  priceList,
  priceListFields,
} from "./price-order.ts";
export * from "./price-rater.ts";
export * from "./pools.ts";
export * from "./prices.ts";
export * from "./catalogue.ts";
