//! Charts as SVG: bars with whiskers from the smallest to the largest value, or lines along an axis. Text is text, so
//! no font is needed here. A chart brings its own background and changes its colours where a dark scheme is preferred,
//! so it can be read on any page. Pure.

use super::figure::Chart;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (760, 400);
const FONT: &str = "sans-serif";
/// Height of the title and of the line of device names.
const HEAD: u32 = 34;
const LEGEND: u32 = 26;
/// Widest bar, pixels.
const BAR_MAX: u32 = 120;
/// From this ratio of the largest to the smallest value on, an axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 40.0;

/// Light colours and what a dark scheme makes of them: background, text and axes, grid.
const SCHEMES: [(RGBColor, RGBColor); 3] = [
    (RGBColor(255, 255, 255), RGBColor(13, 17, 23)),
    (RGBColor(31, 35, 40), RGBColor(230, 237, 243)),
    (RGBColor(216, 222, 228), RGBColor(48, 54, 61)),
];
const PAPER: RGBColor = SCHEMES[0].0;
const INK: RGBColor = SCHEMES[1].0;
const GRID: RGBColor = SCHEMES[2].0;

/// Colours of the devices, to be seen on either background; one that is not named takes from the end.
const COLOURS: [(&str, RGBColor); 8] = [
    ("switchd", RGBColor(31, 119, 220)),
    ("ovs", RGBColor(214, 100, 10)),
    ("testpmd", RGBColor(30, 145, 85)),
    ("bridge", RGBColor(200, 60, 90)),
    ("loop", RGBColor(140, 95, 210)),
    ("bridge-nf", RGBColor(185, 90, 165)),
    ("bridge-rps", RGBColor(145, 120, 20)),
    ("wire", RGBColor(110, 125, 140)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Why drawing failed, as text: nothing but the form of the chart can be at fault.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The chart as an SVG document.
///
/// # Errors
/// A text that says what the library refused.
pub fn svg(chart: &Chart) -> Result<String, String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    draw(&area, chart).map_err(|e| e.to_string())?;
    drop(area);
    Ok(dressed(&text, &chart.title))
}

fn draw(area: &Area<'_>, chart: &Chart) -> Outcome {
    area.fill(&PAPER)?;
    let (head, rest) = area.split_vertically(HEAD);
    let title = (FONT, 17).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    head.draw(&Text::new(chart.title.clone(), ((SIZE.0 / 2) as i32, (HEAD / 2) as i32), title))?;
    match &chart.x_title {
        None => bars(&rest, chart)?,
        Some(x_title) => {
            let (names, plot) = rest.split_vertically(LEGEND);
            legend(&names, chart)?;
            lines(&plot, chart, x_title)?;
        }
    }
    area.present()?;
    Ok(())
}

fn bars(area: &Area<'_>, chart: &Chart) -> Outcome {
    let top = extent(chart, 3).1.max(f64::MIN_POSITIVE) * 1.08;
    let count = chart.series.len() as u32;
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(46).y_label_area_size(72);
    let mut context = builder.build_cartesian_2d((0..count.saturating_sub(1)).into_segmented(), 0.0..top)?;
    let name = |at: &SegmentValue<u32>| match at {
        SegmentValue::CenterOf(at) => chart.series.get(*at as usize).map_or(String::new(), |(name, _)| name.clone()),
        _ => String::new(),
    };
    let label = (FONT, 14).into_font().color(&INK);
    let mut mesh = context.configure_mesh();
    mesh.disable_x_mesh().bold_line_style(GRID).light_line_style(TRANSPARENT).axis_style(INK);
    mesh.x_label_formatter(&name).y_label_formatter(&|v| tick(*v)).label_style(label.clone()).axis_desc_style(label);
    mesh.x_desc("device").y_desc(chart.y_title.clone()).draw()?;
    let room = context.plotting_area().dim_in_pixel().0 / count.max(1);
    let margin = (room / 5).max(room.saturating_sub(BAR_MAX) / 2);
    for (at, (device, points)) in (0u32..).zip(&chart.series) {
        let Some([_, median, min, max]) = points.first().copied() else { continue };
        let corners = [(SegmentValue::Exact(at), 0.0), (SegmentValue::Exact(at + 1), median)];
        let mut bar = Rectangle::new(corners, colour(device, at as usize).filled());
        bar.set_margin(0, 0, margin, margin);
        context.draw_series([bar])?;
        let ends = [max, min].map(|value| context.backend_coord(&(SegmentValue::CenterOf(at), value)));
        area.draw(&whisker(area, ends, INK))?;
    }
    Ok(())
}

/// The devices' names beside their marks.
fn legend(area: &Area<'_>, chart: &Chart) -> Outcome {
    let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = 84;
    for (index, (device, _)) in chart.series.iter().enumerate() {
        let middle = (LEGEND / 2) as i32;
        area.draw(&mark((x, middle), index, colour(device, index)))?;
        area.draw(&Text::new(device.clone(), (x + 12, middle), style.clone()))?;
        x += 40 + 8 * device.len() as i32;
    }
    Ok(())
}

/// Chooses the axes; each may be linear or logarithmic.
fn lines(area: &Area<'_>, chart: &Chart, x_title: &str) -> Outcome {
    let ((x0, x1), (y0, y1)) = (extent(chart, 0), (extent(chart, 2).0, extent(chart, 3).1));
    let wide = |low: f64, high: f64| low > 0.0 && high / low >= LOGARITHMIC_FROM;
    let gap = (x1 - x0) * 0.04;
    let linear = (x0 - gap..x1 + gap, 0.0..y1.max(f64::MIN_POSITIVE) * 1.08);
    let logarithmic = ((x0 / 1.3..x1 * 1.3).log_scale(), (y0 / 1.3..y1 * 1.3).log_scale());
    match (wide(x0, x1), wide(y0, y1)) {
        (false, false) => lines_on(area, chart, x_title, linear.0, linear.1),
        (false, true) => lines_on(area, chart, x_title, linear.0, logarithmic.1),
        (true, false) => lines_on(area, chart, x_title, logarithmic.0, linear.1),
        (true, true) => lines_on(area, chart, x_title, logarithmic.0, logarithmic.1),
    }
}

fn lines_on<X, Y>(area: &Area<'_>, chart: &Chart, x_title: &str, x: X, y: Y) -> Outcome
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(46).y_label_area_size(72);
    let mut context = builder.build_cartesian_2d(x, y)?;
    let label = (FONT, 14).into_font().color(&INK);
    let mut mesh = context.configure_mesh();
    mesh.bold_line_style(GRID).light_line_style(TRANSPARENT).axis_style(INK);
    mesh.x_label_formatter(&|v| tick(*v)).y_label_formatter(&|v| tick(*v));
    mesh.label_style(label.clone()).axis_desc_style(label);
    mesh.x_desc(x_title).y_desc(chart.y_title.clone()).draw()?;
    for (index, (device, points)) in chart.series.iter().enumerate() {
        let colour = colour(device, index);
        context.draw_series(LineSeries::new(points.iter().map(|p| (p[0], p[1])), colour.stroke_width(2)))?;
        for [x, median, min, max] in points.iter().copied() {
            let ends = [max, min].map(|value| context.backend_coord(&(x, value)));
            area.draw(&whisker(area, ends, colour))?;
            let at = inside(area, context.backend_coord(&(x, median)));
            area.draw(&mark(at, index, colour))?;
        }
    }
    Ok(())
}

/// A point of the whole picture as one of the area.
fn inside(area: &Area<'_>, (x, y): (i32, i32)) -> (i32, i32) {
    let origin = area.get_base_pixel();
    (x - origin.0, y - origin.1)
}

/// From the largest value to the smallest, with a short line at either end.
fn whisker(area: &Area<'_>, ends: [(i32, i32); 2], colour: RGBColor) -> PathElement<(i32, i32)> {
    let [(x, top), (_, bottom)] = ends.map(|end| inside(area, end));
    let path = [(x - 6, top), (x + 6, top), (x, top), (x, bottom), (x - 6, bottom), (x + 6, bottom)];
    PathElement::new(path, colour.stroke_width(2))
}

/// A mark of one of four forms, so that lines can be told apart without colours.
fn mark<'a>(at: (i32, i32), index: usize, colour: RGBColor) -> DynElement<'a, SVGBackend<'a>, (i32, i32)> {
    let ((x, y), style) = (at, colour.filled());
    match index % 4 {
        0 => Circle::new(at, 5, style).into_dyn(),
        1 => Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], style).into_dyn(),
        2 => TriangleMarker::new(at, 7, style).into_dyn(),
        _ => Polygon::new(vec![(x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)], style).into_dyn(),
    }
}

/// Smallest and largest value in a column of the points.
fn extent(chart: &Chart, column: usize) -> (f64, f64) {
    let values = || chart.series.iter().flat_map(|(_, points)| points.iter().map(move |p| p[column]));
    (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
}

fn colour(device: &str, index: usize) -> RGBColor {
    let named = COLOURS.iter().find(|(name, _)| *name == device);
    named.or_else(|| COLOURS.get(COLOURS.len() - 1 - index % COLOURS.len())).map_or(INK, |(_, colour)| *colour)
}

/// A value at an axis: no more digits than it needs.
fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = if value.abs() >= 0.001 { text } else { format!("{value:.6}") };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The document with its name and with colours for a dark scheme.
fn dressed(svg: &str, title: &str) -> String {
    let hex = |c: RGBColor| format!("#{:02X}{:02X}{:02X}", c.0, c.1, c.2);
    let rule = |(light, dark): &(RGBColor, RGBColor)| {
        let (light, dark) = (hex(*light), hex(*dark));
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    let rules: String = SCHEMES.iter().map(rule).collect();
    let head =
        format!("<title>{}</title>\n<style>@media (prefers-color-scheme: dark){{{rules}}}</style>", escaped(title));
    match svg.split_once(">\n") {
        Some((open, rest)) => format!("{open}>\n{head}\n{rest}"),
        None => svg.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn chart(x_title: Option<&str>, points: &[[f64; 4]]) -> Chart {
        let series = ["switchd", "ovs & <co>"].map(|device| (device.to_owned(), points.to_vec())).to_vec();
        let (title, y_title) = ("socket < Mpps".to_owned(), "socket, Mpps".to_owned());
        Chart { title, y_title, x_title: x_title.map(str::to_owned), series }
    }

    /// Relative luminance and contrast of WCAG 2.
    fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let channel = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        let light = |c: RGBColor| 0.2126 * channel(c.0) + 0.7152 * channel(c.1) + 0.0722 * channel(c.2) + 0.05;
        (light(a) / light(b)).max(light(b) / light(a))
    }

    #[test]
    fn everything_can_be_seen_on_both_backgrounds() {
        let [(light_paper, dark_paper), (light_ink, dark_ink), _] = SCHEMES;
        assert!(contrast(light_paper, light_ink) >= 7.0 && contrast(dark_paper, dark_ink) >= 7.0);
        for (device, colour) in COLOURS {
            let both = (contrast(colour, light_paper), contrast(colour, dark_paper));
            assert!(both.0 >= 3.0 && both.1 >= 3.0, "{device}: {both:?}");
            assert!(SCHEMES.iter().all(|(light, _)| *light != colour), "{device} would change with the scheme");
        }
    }

    /// The different heights in a path.
    fn heights(line: &str) -> BTreeSet<&str> {
        let points = line.split_once("points=\"").map_or("", |(_, rest)| rest.split('"').next().unwrap_or_default());
        points.split_whitespace().filter_map(|point| point.split_once(',')).map(|(_, y)| y).collect()
    }

    #[test]
    fn bars_have_names_whiskers_and_titles() {
        let text = svg(&chart(None, &[[0.0, 1.5, 1.25, 1.75]])).unwrap();
        for part in
            ["<title>socket &lt; Mpps</title>", "prefers-color-scheme: dark", "socket, Mpps", "device", "switchd"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("#1F77DC") && text.contains("ovs &amp; &lt;co&gt;"), "{text}");
        assert!(!text.contains("ovs & <co>"), "{text}");
        let whiskers: Vec<&str> = text.lines().filter(|line| line.contains("stroke-width=\"2\"")).collect();
        assert_eq!(whiskers.len(), 2, "{text}");
        assert!(whiskers.iter().all(|line| heights(line).len() == 2), "{whiskers:?}");
        assert!(heights(whiskers[0]) == heights(whiskers[1]), "{whiskers:?}");
    }

    #[test]
    fn lines_have_a_point_for_every_value_on_each_kind_of_axis() {
        let near = [[60.0, 1.5, 1.25, 1.75], [1514.0, 1.0, 0.5, 1.25]];
        let far = [[1.0, 1.5, 1.25, 1.75], [1e6, 1e3, 1e2, 1e4]];
        let flat = [[60.0, 0.0, 0.0, 0.0], [1514.0, 0.0, 0.0, 0.0]];
        for points in [near, far, flat] {
            let text = svg(&chart(Some("frame size, bytes"), &points)).unwrap();
            assert!(text.contains("frame size, bytes") && text.contains("socket, Mpps"), "{text}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            // The first device's round marks with that of the legend, and the second one's squares.
            assert_eq!((text.matches("<circle").count(), text.matches("<rect").count()), (3, 1 + 3), "{text}");
        }
    }

    #[test]
    fn ticks_have_no_needless_digits() {
        assert_eq!(
            [0.0, 0.30000000000000004, 1514.0, 1e6, 0.00025].map(tick),
            ["0", "0.3", "1514", "1000000", "0.00025"]
        );
    }
}
