//! A document as text, CSV, or HTML that needs nothing else.

use super::{Document, Section};
use std::fmt::Write as _;

/// Readable text: tables in columns.
pub(crate) fn text(document: &Document) -> String {
    let mut out = format!("{} {}\n", document.report, document.title);
    for section in &document.sections {
        out.push('\n');
        match section {
            Section::Text(words) => out.push_str(&format!("{words}\n")),
            Section::Facts(facts) => {
                let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
                for (name, value) in facts {
                    out.push_str(&format!("{name:width$}  {value}\n"));
                }
            }
            Section::Table { title, columns, rows } => table_text(&mut out, title, columns, rows),
            Section::Series { title, points } => {
                out.push_str(&format!("{title}\n"));
                for (name, value) in points {
                    out.push_str(&format!("  {name}  {value}\n"));
                }
            }
        }
    }
    out
}

fn table_text(out: &mut String, title: &str, columns: &[String], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(columns.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().min(60)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    out.push_str(&format!("{title} ({})\n", rows.len()));
    for row in std::iter::once(columns).chain(rows.iter().map(Vec::as_slice)) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(&format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
}

/// The tables, one after the other, each under a line with its title; facts as a table of two columns. UTF-8 with a byte
/// order mark and CRLF line ends (RFC 4180), for spreadsheets. A cell that a spreadsheet would calculate gets an
/// apostrophe.
pub(crate) fn csv(document: &Document, delimiter: char) -> String {
    let mut out = "\u{feff}".to_owned();
    let mut line = |cells: &[&str]| {
        let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell, delimiter)).collect();
        out.push_str(&cells.join(&delimiter.to_string()));
        out.push_str("\r\n");
    };
    line(&[document.report, &document.title]);
    for section in &document.sections {
        match section {
            Section::Text(words) => line(&[words]),
            Section::Facts(facts) => {
                for (name, value) in facts {
                    line(&[name, value]);
                }
            }
            Section::Table { title, columns, rows } => {
                line(&[title]);
                for row in std::iter::once(columns).chain(rows) {
                    line(&row.iter().map(String::as_str).collect::<Vec<_>>());
                }
            }
            Section::Series { title, points } => {
                line(&[title]);
                for (name, value) in points {
                    line(&[name, &value.to_string()]);
                }
            }
        }
    }
    out
}

fn csv_cell(cell: &str, delimiter: char) -> String {
    let calculates = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if calculates { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([delimiter, '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

const STYLE: &str = "body{font:10.5pt/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-size:.9rem}\
caption{text-align:left;font-weight:600;padding:.4rem 0}th,td{border:1px solid #bbb;padding:.25rem .45rem;text-align:left;\
vertical-align:top;overflow-wrap:anywhere}thead{display:table-header-group}tr{break-inside:avoid}th{background:#f0f0f0}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#555}dd{margin:0}svg{max-width:100%}\
@media print{body{margin:0;max-width:none}}@page{margin:18mm}";

/// One page without anything from elsewhere: printable, no scripts.
pub(crate) fn html(document: &Document) -> String {
    let Document { report, title, lang, sections } = document;
    let title = escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"{lang}\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{report} {title}</title><style>{STYLE}</style></head>\n<body><h1>{report} {title}</h1>\n"
    );
    for section in sections {
        match section {
            Section::Text(words) => out.push_str(&format!("<p>{}</p>\n", escape(words))),
            Section::Facts(facts) => {
                let facts =
                    facts.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)));
                out.push_str(&format!("<dl>{}</dl>\n", facts.collect::<String>()));
            }
            Section::Table { title, columns, rows } => {
                let head: String =
                    columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
                out.push_str(&format!(
                    "<table><caption>{} ({})</caption><thead><tr>{head}</tr></thead><tbody>\n",
                    escape(title),
                    rows.len()
                ));
                for row in rows {
                    let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
                    out.push_str(&format!("<tr>{cells}</tr>\n"));
                }
                out.push_str("</tbody></table>\n");
            }
            Section::Series { title, points } => out.push_str(&plot(title, points)),
        }
    }
    out.push_str("</body></html>\n");
    out
}

/// Columns over time, each with its number.
fn plot(title: &str, points: &[(String, u64)]) -> String {
    const COLUMN: usize = 70;
    const HEIGHT: u64 = 120;
    let most = points.iter().map(|(_, value)| *value).max().unwrap_or_default().max(1);
    let (width, title) = (points.len().max(1) * COLUMN, escape(title));
    let mut out = format!(
        "<h2>{title}</h2><svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {width} 160\" width=\"{width}\" height=\"160\" font-size=\"11\" text-anchor=\"middle\">\n"
    );
    for (number, (name, value)) in points.iter().enumerate() {
        let (left, tall) = (number * COLUMN, value.saturating_mul(HEIGHT) / most);
        let (top, middle) = (HEIGHT + 15 - tall, left + COLUMN / 2);
        let _infallible = writeln!(
            out,
            "<rect x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{tall}\" fill=\"#31688e\"/>\
             <text x=\"{middle}\" y=\"{}\">{value}</text><text x=\"{middle}\" y=\"152\">{}</text>",
            left + 10,
            COLUMN - 20,
            top - 4,
            escape(name)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        Document {
            report: "R2",
            title: "Kto & co".into(),
            lang: "pl",
            sections: vec![
                Section::Facts(vec![("Dziennik".into(), "a/b".into())]),
                Section::Table {
                    title: "T".into(),
                    columns: vec!["dzień".into(), "co".into()],
                    rows: vec![vec!["2026-11-21".into(), "<script>;\"x\"".into()], vec!["=1+1".into(), "ż".into()]],
                },
                Section::Series { title: "S".into(), points: vec![("2026-10".into(), 0), ("2026-11".into(), 4)] },
            ],
        }
    }

    #[test]
    fn a_spreadsheet_reads_what_was_meant_and_calculates_nothing() {
        let written = csv(&document(), ';');
        assert!(written.starts_with("\u{feff}R2;Kto & co\r\n"));
        assert!(written.contains("2026-11-21;\"<script>;\"\"x\"\"\"\r\n'=1+1;ż\r\n"), "{written}");
        assert!(csv(&document(), ',').contains("2026-11-21,\"<script>;\"\"x\"\"\"\r\n"));
    }

    #[test]
    fn a_page_stands_alone_and_runs_nothing() {
        let page = html(&document());
        assert!(page.contains("Kto &amp; co") && page.contains("&lt;script&gt;;&quot;x&quot;"));
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
        assert_eq!(page.matches("<rect").count(), 2);
    }

    #[test]
    fn text_lines_up() {
        let lines = text(&document());
        assert!(lines.contains("Dziennik  a/b\n"));
        assert!(lines.contains("  dzień       co\n  2026-11-21  <script>"), "{lines}");
    }
}
