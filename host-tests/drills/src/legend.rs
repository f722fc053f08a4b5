//! A chart's legend.

use plotters::coord::Shift;
use plotters::prelude::*;

/// Height of an entry, in pixels.
const LINE: i32 = 14;

/// Lists names with their colours from the top of an area. Names that do not fit are counted.
pub(crate) fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    entries: &[(String, RGBAColor)],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let room = (area.dim_in_pixel().1 as i32 / LINE - 2).max(1) as usize;
    let shown = if entries.len() > room { room - 1 } else { entries.len() };
    for (n, (name, colour)) in entries[..shown].iter().enumerate() {
        let y = LINE * (n as i32 + 1);
        area.draw(&PathElement::new([(4, y + 5), (16, y + 5)], colour.stroke_width(3)))?;
        area.draw(&Text::new(name.clone(), (20, y), ("sans-serif", 11)))?;
    }
    if shown < entries.len() {
        let rest = format!("and {} more", entries.len() - shown);
        area.draw(&Text::new(rest, (20, LINE * (shown as i32 + 1)), ("sans-serif", 11)))?;
    }
    Ok(())
}
