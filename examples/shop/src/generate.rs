//! Making orders up: skewed like a real shop's, the same for the same seed everywhere.

use std::io;
use std::path::Path;

use fastrand::Rng;

use crate::events::Line;
use crate::money::Money;
use crate::orders_csv::Order;

const PRODUCTS: u64 = 3_000;
const CUSTOMERS: u64 = 2_000;

/// `count` orders. Products are Zipf-skewed: the n-th is ordered in proportion to 1/n.
pub fn orders(count: u64, seed: u64) -> impl Iterator<Item = Order> {
    let mut rng = Rng::with_seed(seed);
    let zipf = Zipf::new(PRODUCTS);
    (0..count).map(move |n| order(&mut rng, &zipf, n))
}

fn order(rng: &mut Rng, zipf: &Zipf, n: u64) -> Order {
    let cancelled = rng.u8(..100) < 8;
    let kind = rng.u8(..100);
    let customer = if rng.u8(..100) < 10 { "guest".to_owned() } else { (10_000 + rng.u64(..CUSTOMERS)).to_string() };
    let count = 1 + rng.usize(..4) * rng.usize(..7);
    let mut lines: Vec<_> = (0..count).map(|_| line(rng, zipf, cancelled)).collect();
    match kind {
        // A manual adjustment: rejected.
        0..2 => lines[0].price = money("-11062.06"),
        // Nothing but corrections: rejected.
        2..4 => lines.iter_mut().for_each(|line| line.quantity = -line.quantity.abs()),
        // A wholesaler: now and then more than there is.
        4..8 => lines[0].quantity = rng.i64(200..1700),
        // A correction among ordinary rows.
        8..12 if count > 1 => lines[1].quantity = -1,
        _ => {}
    }
    let invoice = format!("{}{}", if cancelled { "C" } else { "" }, 700_000 + n);
    Order { id: format!("{invoice}-{n}"), customer, cancelled, lines }
}

fn line(rng: &mut Rng, zipf: &Zipf, cancelled: bool) -> Line {
    let product = zipf.draw(rng);
    let quantity = rng.i64(1..=12);
    let thousandths = match rng.u8(..50) {
        0 => 0,
        1 => 1 + (product * 37) % 999,
        // A product has one price, to the penny.
        _ => (25 + (product * 7919) % 1500) * 10,
    };
    Line {
        product: format!("{}{}", 20_000 + product, ["", "", "", "A", "b"][(product % 5) as usize]),
        quantity: if cancelled { -quantity } else { quantity },
        price: money(&format!("{}.{:03}", thousandths / 1000, thousandths % 1000)),
    }
}

fn money(text: &str) -> Money {
    text.parse().unwrap_or(Money::ZERO)
}

/// Draws numbers in proportion to 1/n, in whole numbers, so that every machine draws the same.
struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let mut total = 0;
        let cumulative = (1..=count).map(|n| {
            total += 1_000_000_000 / n;
            total
        });
        Zipf { cumulative: cumulative.collect() }
    }

    fn draw(&self, rng: &mut Rng) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let at = rng.u64(..total);
        self.cumulative.partition_point(|sum| *sum <= at) as u64
    }
}

/// Writes made-up orders in the form that `orders_csv` reads.
///
/// # Errors
/// The disk's.
pub fn write_csv(path: &Path, count: u64, seed: u64) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record([
        "InvoiceNo",
        "StockCode",
        "Description",
        "Quantity",
        "InvoiceDate",
        "UnitPrice",
        "CustomerID",
        "Country",
    ])?;
    for order in orders(count, seed) {
        let (invoice, _) = order.id.rsplit_once('-').unwrap_or((&order.id, ""));
        let customer = if order.customer == "guest" { String::new() } else { format!("{}.0", order.customer) };
        for line in &order.lines {
            let quantity = line.quantity.to_string();
            let (product, price) = (line.product.as_str(), line.price.exact());
            let row =
                [invoice, product, "made up, by a seed", &quantity, "2010-12-01 08:26:00", &price, &customer, "UK"];
            writer.write_record(row)?;
        }
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders_csv;

    #[test]
    fn the_same_seed_makes_the_same_orders_and_another_makes_others() {
        let made = |seed| orders(200, seed).collect::<Vec<_>>();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orders.csv");
        write_csv(&file, 500, 3).unwrap();
        let read: Vec<_> = orders_csv::read(&file).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, orders(500, 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_few_products_are_in_most_orders() {
        let hot =
            orders(1000, 1).filter(|order| order.lines.iter().any(|line| line.product.starts_with("20000"))).count();
        assert!(hot > 200, "{hot}");
    }
}
