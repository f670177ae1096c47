//! Reading orders: consecutive rows with the same invoice number are one order.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use csv::{ByteRecord, Position, Reader};

use crate::events::Line;

/// An order, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// `{InvoiceNo}-{n}`, n counting the orders of the file from zero.
    pub id: String,
    /// The customer's number, or `guest`.
    pub customer: String,
    /// Whether it takes an earlier order back.
    pub cancelled: bool,
    /// Its rows.
    pub lines: Vec<Line>,
}

/// What is wrong with the file, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{file}: cannot read the file: {cause}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A row is not as it should be.
    #[error("{file}, line {line}, column {column}: {what}; everything before this order was read")]
    Malformed {
        /// Which.
        file: String,
        /// From one.
        line: u64,
        /// The name of the column.
        column: String,
        /// What is wrong.
        what: String,
    },
}

const COLUMNS: [&str; 8] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];
const INVOICE: usize = 0;
const PRODUCT: usize = 1;
const QUANTITY: usize = 3;
const PRICE: usize = 5;
const CUSTOMER: usize = 6;

/// Opens a file of orders.
///
/// # Errors
/// When it cannot be opened, or a column is missing.
pub fn read(path: &Path) -> Result<Orders<File>, Error> {
    let file = path.display().to_string();
    let opened = File::open(path).map_err(|cause| Error::Unreadable { file: file.clone(), cause })?;
    Orders::new(opened, file)
}

/// The orders of a file, in its order. After an error there is nothing more.
pub struct Orders<R> {
    reader: Reader<R>,
    file: String,
    /// Where each of `COLUMNS` is.
    places: [usize; COLUMNS.len()],
    /// How many fields the header has.
    width: usize,
    /// How many orders there were.
    count: u64,
    /// The first row of the next order.
    pending: Option<Row>,
    over: bool,
}

struct Row {
    invoice: String,
    customer: String,
    line: Line,
}

impl<R: Read> Orders<R> {
    /// Reads orders from anything; `file` is what errors call it.
    ///
    /// # Errors
    /// When it cannot be read, or a column is missing.
    pub fn new(input: R, file: String) -> Result<Self, Error> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader.byte_headers().map_err(|cause| unreadable(&file, cause))?.clone();
        let mut places = [0; COLUMNS.len()];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            let found = header.iter().position(|name| name.trim_ascii() == column.as_bytes());
            *place = found.ok_or_else(|| Error::Malformed {
                file: file.clone(),
                line: 1,
                column: column.to_owned(),
                what: "the column is missing".to_owned(),
            })?;
        }
        Ok(Orders { reader, file, places, width: header.len(), count: 0, pending: None, over: false })
    }

    fn row(&mut self) -> Result<Option<Row>, Error> {
        let mut record = ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record);
        if !more.map_err(|cause| self.broken(cause))? {
            return Ok(None);
        }
        let line = record.position().map_or(0, Position::line);
        let field = |n: usize| -> Result<&str, Error> {
            let malformed = |what: &str| self.malformed(line, n, what.to_owned());
            let bytes = record.get(self.places[n]).ok_or_else(|| malformed("the field is missing"))?;
            std::str::from_utf8(bytes).map(str::trim).map_err(|_| malformed("not UTF-8 text"))
        };
        if record.len() > self.width {
            return Err(self.malformed(line, COLUMNS.len() - 1, format!("{} fields in the row", record.len())));
        }
        let invoice = field(INVOICE)?;
        let product = field(PRODUCT)?;
        for (n, text) in [(INVOICE, invoice), (PRODUCT, product)] {
            if text.is_empty() {
                return Err(self.malformed(line, n, "the field is empty".to_owned()));
            }
        }
        let quantity = field(QUANTITY)?;
        let price = field(PRICE)?;
        let quantity = quantity
            .parse()
            .map_err(|_| self.malformed(line, QUANTITY, format!("{quantity:?} is not a whole number")))?;
        let price =
            price.parse().map_err(|_| self.malformed(line, PRICE, format!("{price:?} is not a decimal number")))?;
        let customer = field(CUSTOMER)?;
        for n in 0..COLUMNS.len() {
            field(n)?;
        }
        Ok(Some(Row {
            invoice: invoice.to_owned(),
            customer: match customer.split('.').next() {
                None | Some("") => "guest".to_owned(),
                Some(number) => number.to_owned(),
            },
            line: Line { product: product.to_owned(), quantity, price },
        }))
    }

    fn malformed(&self, line: u64, column: usize, what: String) -> Error {
        Error::Malformed { file: self.file.clone(), line, column: COLUMNS[column].to_owned(), what }
    }

    fn broken(&self, cause: csv::Error) -> Error {
        unreadable(&self.file, cause)
    }

    fn order(&mut self) -> Result<Option<Order>, Error> {
        let first = match self.pending.take() {
            Some(row) => row,
            None => match self.row()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let id = format!("{}-{}", first.invoice, self.count);
        let mut order =
            Order { id, customer: first.customer, cancelled: first.invoice.starts_with('C'), lines: vec![first.line] };
        while let Some(row) = self.row()? {
            if row.invoice != first.invoice {
                self.pending = Some(row);
                break;
            }
            order.lines.push(row.line);
        }
        self.count += 1;
        Ok(Some(order))
    }
}

impl<R: Read> Iterator for Orders<R> {
    type Item = Result<Order, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.order().transpose();
        // The order that a malformed row belongs to, or follows, may be incomplete: it is not given out.
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn unreadable(file: &str, cause: csv::Error) -> Error {
    let line = cause.position().map(Position::line);
    match (cause.into_kind(), line) {
        (csv::ErrorKind::Io(cause), _) => Error::Unreadable { file: file.to_owned(), cause },
        (kind, line) => Error::Malformed {
            file: file.to_owned(),
            line: line.unwrap_or(1),
            column: COLUMNS[0].to_owned(),
            what: format!("{kind:?}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn orders(rows: &str) -> Vec<Result<Order, Error>> {
        Orders::new(format!("{HEADER}{rows}").as_bytes(), "orders.csv".to_owned()).unwrap().collect()
    }

    #[test]
    fn consecutive_rows_of_an_invoice_are_one_order_and_orders_are_numbered() {
        let orders: Vec<_> =
            orders("1,a,x,6,t,2.55,17850.0,UK\n1,b,\"y, z\",1,t,0,,UK\nC2,a,x,-1,t,2.55,,UK\n1,a,x,1,t,1,17850.0,UK\n")
                .into_iter()
                .map(Result::unwrap)
                .collect();
        let ids: Vec<_> = orders.iter().map(|order| (&*order.id, &*order.customer, order.cancelled)).collect();
        assert_eq!(ids, [("1-0", "17850", false), ("C2-1", "guest", true), ("1-2", "17850", false)]);
        assert_eq!(orders[0].lines.len(), 2);
        assert_eq!(orders[0].lines[0].price.to_string(), "2.550");
    }

    #[test]
    fn a_malformed_row_is_named_and_what_was_read_before_is_kept() {
        for (row, column, what) in [
            ("3,a,x,six,t,1,,UK", "Quantity", "not a whole number"),
            ("3,a,x,6,t,cheap,,UK", "UnitPrice", "not a decimal"),
            ("3,a,x,6", "UnitPrice", "missing"),
            (",a,x,6,t,1,,UK", "InvoiceNo", "empty"),
            ("3,a,x,6,t,1,,UK,more", "Country", "9 fields"),
        ] {
            let read = orders(&format!("1,a,x,1,t,1,,UK\n2,a,x,1,t,1,,UK\n{row}\n4,a,x,1,t,1,,UK\n"));
            assert_eq!(read.len(), 2, "{row}");
            assert!(read[0].is_ok());
            let error = read[1].as_ref().unwrap_err().to_string();
            assert!(error.starts_with(&format!("orders.csv, line 4, column {column}: ")), "{error}");
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = Orders::new(&b"InvoiceNo,StockCode\n"[..], "orders.csv".to_owned()).err().unwrap();
        assert!(error.to_string().contains("column Description: the column is missing"), "{error}");
    }
}
