export { PRICE_LAYERS, type PriceEntry, type PriceLayer, type StoredPrice } from "#store";
export * from "./price-book.ts";
export * from "./price-changes.ts";
export { type PriceList, priceListFields } from "./price-order.ts";
export * from "./price-file.ts";
export * from "./prices.ts";
export * from "./catalogue.ts";
