//! Reading orders: consecutive rows with the same invoice number are one order.
//!
//! The file is never in memory as a whole. Names are kept exactly as written: `15056BL` and `15056bl` are two products.

use std::fs::File;
use std::io::{Chain, Read};
use std::path::Path;

use csv::{ByteRecord, Position, Reader, Terminator};

use crate::events::Line;
use crate::money::Money;

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
    #[error("{file}, line {line}, column {column}: {what}; what stands before it was read")]
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

/// Far more than any shop sells in a row, and little enough that sums over an order stay exact.
const MAX_QUANTITY: i64 = 1_000_000_000;

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
    rows: Rows<R>,
    /// How many orders there were.
    count: u64,
    /// The first row of the next order, or why there is none.
    pending: Option<Result<Row, Broken>>,
    over: bool,
}

impl<R: Read> Orders<R> {
    /// Reads orders from anything; `file` is what errors call it.
    ///
    /// # Errors
    /// When it cannot be read, or a column is missing.
    pub fn new(input: R, file: String) -> Result<Self, Error> {
        Ok(Orders { rows: Rows::new(input, file)?, count: 0, pending: None, over: false })
    }

    fn order(&mut self) -> Result<Option<Order>, Error> {
        let Some(first) = self.pending.take().or_else(|| self.rows.next()) else { return Ok(None) };
        let first = first.map_err(|broken| broken.error)?;
        let mut order = Order {
            id: format!("{}-{}", first.invoice, self.count),
            customer: first.customer,
            cancelled: first.invoice.starts_with('C'),
            lines: vec![first.line],
        };
        loop {
            match self.rows.next() {
                Some(Ok(row)) if row.invoice == first.invoice => order.lines.push(row.line),
                // A malformed row of another invoice leaves this order whole. One of this invoice, or of nobody knows
                // which, does not: an order with a row less would be another order.
                Some(Err(broken)) if broken.invoice.as_ref().is_none_or(|invoice| *invoice == first.invoice) => {
                    return Err(broken.error);
                }
                next => {
                    self.pending = next;
                    break;
                }
            }
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
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

struct Row {
    invoice: String,
    customer: String,
    line: Line,
}

/// A row that is no row, and the invoice it belongs to if that can be read.
struct Broken {
    invoice: Option<String>,
    error: Error,
}

struct Rows<R> {
    reader: Reader<Chain<R, &'static [u8]>>,
    file: String,
    /// How many fields a row has, and where each of `COLUMNS` is among them.
    width: usize,
    places: [usize; COLUMNS.len()],
    record: ByteRecord,
    /// The line on which the record begins.
    line: u64,
}

impl<R: Read> Rows<R> {
    fn new(input: R, file: String) -> Result<Self, Error> {
        // Rows of another width are read too, so that the error can name what they lack.
        // Lines end with a line feed, the last one too; a carriage return before it is taken off below. With the crate's own
        // line ends a record would begin on the line of the one before.
        let input = input.chain(b"\n".as_slice());
        let mut reader = csv::ReaderBuilder::new().flexible(true).terminator(Terminator::Any(b'\n')).from_reader(input);
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
        Ok(Rows { reader, file, width: header.len(), places, record: ByteRecord::new(), line: 1 })
    }

    fn next(&mut self) -> Option<Result<Row, Broken>> {
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(false) => return None,
                Ok(true) if self.record.len() == 1 && self.record[0] == *b"\r" => {}
                Ok(true) => break,
                Err(cause) => return Some(Err(Broken { invoice: None, error: unreadable(&self.file, cause) })),
            }
        }
        // The reader stands behind the record; empty lines before it were skipped.
        let inside = self.record.iter().flatten().filter(|byte| **byte == b'\n').count() as u64;
        let behind = self.reader.position().line();
        let before = self.record.position().map_or(1, Position::line);
        self.line = before.max(behind.saturating_sub(1 + inside));
        Some(self.row().map_err(|error| Broken { invoice: self.invoice(), error }))
    }

    fn row(&self) -> Result<Row, Error> {
        if self.record.len() > self.width {
            let what = format!("{} fields in the row, {} in the header", self.record.len(), self.width);
            return Err(self.malformed(COLUMNS.len() - 1, what));
        }
        let mut fields = [""; COLUMNS.len()];
        for (n, field) in fields.iter_mut().enumerate() {
            *field = self.field(n)?;
        }
        let quantity: i64 = fields[QUANTITY]
            .trim()
            .parse()
            .map_err(|_| self.malformed(QUANTITY, format!("{:?} is not a whole number", fields[QUANTITY])))?;
        if quantity.unsigned_abs() > MAX_QUANTITY.unsigned_abs() {
            return Err(self.malformed(QUANTITY, format!("{quantity} is more than {MAX_QUANTITY}")));
        }
        let price: Money = fields[PRICE]
            .parse()
            .map_err(|_| self.malformed(PRICE, format!("{:?} is not a decimal number", fields[PRICE])))?;
        if !price.is_price() {
            return Err(self.malformed(PRICE, format!("{:?} has too many digits for a price", fields[PRICE])));
        }
        Ok(Row {
            invoice: fields[INVOICE].to_owned(),
            customer: match fields[CUSTOMER].split('.').next() {
                None | Some("") => "guest".to_owned(),
                Some(number) => number.to_owned(),
            },
            line: Line { product: fields[PRODUCT].to_owned(), quantity, price },
        })
    }

    fn field(&self, n: usize) -> Result<&str, Error> {
        let bytes =
            self.record.get(self.places[n]).ok_or_else(|| self.malformed(n, "the field is missing".to_owned()))?;
        let bytes = match bytes.strip_suffix(b"\r") {
            Some(text) if self.places[n] + 1 == self.record.len() => text,
            _ => bytes,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed(n, "not UTF-8 text".to_owned()))?;
        if text.is_empty() && (n == INVOICE || n == PRODUCT) {
            return Err(self.malformed(n, "the field is empty".to_owned()));
        }
        Ok(text)
    }

    fn invoice(&self) -> Option<String> {
        self.field(INVOICE).ok().map(str::to_owned)
    }

    fn malformed(&self, column: usize, what: String) -> Error {
        Error::Malformed { file: self.file.clone(), line: self.line, column: COLUMNS[column].to_owned(), what }
    }
}

fn unreadable(file: &str, cause: csv::Error) -> Error {
    let line = cause.position().map_or(1, Position::line);
    match cause.into_kind() {
        csv::ErrorKind::Io(cause) => Error::Unreadable { file: file.to_owned(), cause },
        kind => {
            let (file, column) = (file.to_owned(), COLUMNS[INVOICE].to_owned());
            Error::Malformed { file, line, column, what: format!("{kind:?}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn orders(rows: impl AsRef<[u8]>) -> Vec<Result<Order, Error>> {
        let text = [HEADER.as_bytes(), rows.as_ref()].concat();
        Orders::new(text.as_slice(), "orders.csv".to_owned()).unwrap().collect()
    }

    #[test]
    fn consecutive_rows_of_an_invoice_are_one_order_and_orders_are_numbered() {
        let rows = "1,a,x,6,t,2.55,17850.0,UK\n1,b,\"y, z\",1,t,0,,UK\nC2,a,x,-1,t,2.55,,UK\n1,a,x,1,t,1,17850,UK\n";
        let orders: Vec<_> = orders(rows).into_iter().map(Result::unwrap).collect();
        let ids: Vec<_> = orders.iter().map(|order| (&*order.id, &*order.customer, order.cancelled)).collect();
        assert_eq!(ids, [("1-0", "17850", false), ("C2-1", "guest", true), ("1-2", "17850", false)]);
        assert_eq!(orders[0].lines.len(), 2);
        assert_eq!(orders[0].lines[0].price.to_string(), "2.550");
    }

    #[test]
    fn products_are_kept_exactly_as_written() {
        let orders = orders("1,a,x,1,t,1,,UK\n1,A,x,1,t,1,,UK\n1,a ,x,1,t,1,,UK\n");
        let products: Vec<_> = orders[0].as_ref().unwrap().lines.iter().map(|line| &*line.product).collect();
        assert_eq!(products, ["a", "A", "a "]);
    }

    #[test]
    fn a_malformed_row_is_named_and_what_was_read_before_is_kept() {
        let cases: [(&[u8], &str, &str); 10] = [
            (b"3,a,x,six,t,1,,UK", "Quantity", "\"six\" is not a whole number"),
            (b"3,a,x,1.0,t,1,,UK", "Quantity", "not a whole number"),
            (b"3,a,x,9223372036854775807,t,1,,UK", "Quantity", "more than"),
            (b"3,a,x,6,t,cheap,,UK", "UnitPrice", "\"cheap\" is not a decimal"),
            (b"3,a,x,6,t,0.0000001,,UK", "UnitPrice", "too many digits"),
            (b"3,a,x,6", "InvoiceDate", "missing"),
            (b"3,,x,6,t,1,,UK", "StockCode", "empty"),
            (b"3,a,x,6,t,1,,UK,more", "Country", "9 fields"),
            (b"3,a,\xff,6,t,1,,UK", "Description", "not UTF-8"),
            (b"nonsense", "StockCode", "missing"),
        ];
        for (row, column, what) in cases {
            let rows = [b"1,a,x,1,t,1,,UK\n2,a,x,1,t,1,,UK\n", row, b"\n4,a,x,1,t,1,,UK\n"].concat();
            let read = orders(rows);
            let row = String::from_utf8_lossy(row);
            assert_eq!(read.len(), 3, "{row}");
            assert!(read[0].is_ok() && read[1].is_ok(), "{row}");
            let error = read[2].as_ref().unwrap_err().to_string();
            assert!(error.starts_with(&format!("orders.csv, line 4, column {column}: ")), "{error}");
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn an_order_that_a_malformed_row_may_belong_to_is_not_given_out() {
        for row in ["2,b,x,six,t,1,,UK", ",b,x,1,t,1,,UK"] {
            let read = orders(format!("1,a,x,1,t,1,,UK\n2,a,x,1,t,1,,UK\n{row}\n"));
            assert_eq!(read.len(), 2, "{row}");
            assert!(read[0].is_ok() && read[1].is_err(), "{row}");
        }
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        for (rows, at) in [
            ("1,a,\"two\nlines\",1,t,1,,UK\n2,a,x,six,t,1,,UK\n", 4),
            ("1,a,x,1,t,1,,UK\n\n\n2,a,x,six,t,1,,UK", 5),
            ("1,a,x,1,t,1,,UK\r\n\r\n2,a,x,six,t,1,,UK\r\n", 4),
            ("1,a,x,1,t,1,,UK\n2,\"a,x,1,t,1,,UK\n3,a,x,1,t,1,,UK\n", 3),
        ] {
            let read = orders(rows);
            let error = read[1].as_ref().unwrap_err().to_string();
            assert!(error.starts_with(&format!("orders.csv, line {at}, ")), "{rows:?}: {error}");
        }
    }

    #[test]
    fn line_ends_of_other_systems_are_not_part_of_a_field() {
        let text = HEADER.replace("CustomerID,Country", "Country,CustomerID").replace('\n', "\r\n");
        let text = text + "1,a,x,1,t,1,UK,7.0\r\n\r\n1,b,x,1,t,1,UK,7\r\n2,a,x,1,t,1,UK,\r\n";
        let orders: Vec<_> =
            Orders::new(text.as_bytes(), "orders.csv".to_owned()).unwrap().map(Result::unwrap).collect();
        let seen: Vec<_> = orders.iter().map(|order| (&*order.customer, order.lines.len())).collect();
        assert_eq!(seen, [("7", 2), ("guest", 1)]);
    }

    #[test]
    fn a_missing_column_is_named() {
        for (text, column) in [("InvoiceNo,StockCode\n", "Description"), ("", "InvoiceNo")] {
            let error = Orders::new(text.as_bytes(), "orders.csv".to_owned()).err().unwrap().to_string();
            assert!(error.contains(&format!("line 1, column {column}: the column is missing")), "{error}");
        }
    }
}
