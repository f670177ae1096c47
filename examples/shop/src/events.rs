//! The facts that the five services tell each other, and the topics they tell them on.

use commute::prelude::*;

use crate::money::Money;

/// Placed and cancelled orders, in the order of the input.
pub const ORDERS: &str = "shop.orders";
/// Registered customers.
pub const USERS: &str = "shop.users";
/// What became of the stock of an order.
pub const STOCK: &str = "shop.stock";
/// Charges.
pub const PAYMENTS: &str = "shop.payments";
/// Shipments.
pub const SHIPPING: &str = "shop.shipping";

/// One row of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product's stock code, exactly as written.
    pub product: String,
    /// May be negative: corrections stand among the rows of real invoices.
    pub quantity: i64,
    /// The price of one unit.
    pub price: Money,
}

/// A customer ordered.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", version = 1, key = "order")]
pub struct OrderPlaced {
    /// `{InvoiceNo}-{n}`.
    pub order: String,
    /// The customer's number, or `guest`.
    pub customer: String,
    /// The rows.
    pub lines: Vec<Line>,
}

/// A customer sent something back.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.order.cancelled", version = 1, key = "order")]
pub struct OrderCancelled {
    /// `{InvoiceNo}-{n}`.
    pub order: String,
    /// The customer's number, or `guest`.
    pub customer: String,
    /// The rows.
    pub lines: Vec<Line>,
}

/// A customer ordered for the first time.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.user.created", version = 1, key = "customer")]
pub struct UserCreated {
    /// The customer's number, or `guest`.
    pub customer: String,
}

/// Everything that an order needs is set aside for it.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", version = 1, key = "order")]
pub struct StockReserved {
    /// The order.
    pub order: String,
    /// Who pays.
    pub customer: String,
    /// What was taken: the rows with a positive quantity.
    pub lines: Vec<Line>,
}

/// Something was missing, so nothing was taken.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.short", version = 1, key = "order")]
pub struct StockShort {
    /// The order.
    pub order: String,
    /// What was missing.
    pub products: Vec<String>,
}

/// What the inventory answers to an order.
#[derive(Debug, Events)]
pub enum StockAnswer {
    /// All of it.
    Reserved(StockReserved),
    /// None of it.
    Short(StockShort),
}

/// An order is paid.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.payment.taken", version = 1, key = "order")]
pub struct PaymentTaken {
    /// The order.
    pub order: String,
    /// Who paid.
    pub customer: String,
    /// How much.
    pub amount: Money,
}

/// An order is on its way.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "shop.order.shipped", version = 1, key = "order")]
pub struct OrderShipped {
    /// The order.
    pub order: String,
}
