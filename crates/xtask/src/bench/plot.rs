//! Plots as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Figures that grow with something.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over one axis, both of them logarithmic.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) lines: &'a [Line],
}

const SIZE: (u32, u32) = (720, 440);

impl Plot<'_> {
    /// Draws them.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let svg = self.svg().map_err(|error| anyhow!("draw {}: {error}", path.display()))?;
        std::fs::write(path, svg)?;
        Ok(())
    }

    fn svg(&self) -> Result<String, Box<dyn std::error::Error>> {
        let mut svg = String::new();
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
        let least = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::INFINITY, f64::min);
        let (x_max, y_max) = (most(|point| point.0), most(|point| point.1));
        let (x_min, y_min) = (least(|point| point.0), least(|point| point.1));
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let x = (x_min..x_max * 1.2).log_scale();
            let y = (y_min / 1.5..y_max * 1.5).log_scale();
            let mut chart = ChartBuilder::on(&area)
                .caption(self.title, ("sans-serif", 20))
                .margin(12)
                .x_label_area_size(44)
                .y_label_area_size(64)
                .build_cartesian_2d(x, y)?;
            let short = |value: &f64| short(*value);
            chart
                .configure_mesh()
                .x_desc(self.x)
                .y_desc(self.y)
                .x_label_formatter(&short)
                .y_label_formatter(&short)
                .draw()?;
            for (number, line) in self.lines.iter().enumerate() {
                let colour = Palette99::pick(number).to_rgba();
                let points = line.points.iter().copied();
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
                    .label(&line.name)
                    .legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                    });
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}

/// A number as people write it beside an axis.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_lines_and_axes() {
        let line = |name: &str| Line { name: name.into(), points: vec![(1.0, 40.0), (1e6, 90.0)] };
        let lines = [line("ours"), line("theirs")];
        let plot = Plot { title: "A packet", x: "flows", y: "ticks", lines: &lines };
        let svg = plot.svg().unwrap();
        for word in ["<svg", "A packet", "flows", "ticks", "ours", "theirs", "1 M"] {
            assert!(svg.contains(word), "{word}: {svg}");
        }
    }

    #[test]
    fn numbers_beside_an_axis_are_short() {
        assert_eq!([1.0, 250.0, 4e3, 1e7].map(short), ["1", "250", "4 k", "10 M"]);
    }
}
