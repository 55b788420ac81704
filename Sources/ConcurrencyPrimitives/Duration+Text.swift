extension Duration {
    /// Readable text for logs: "0s", "85ms", "4.5s", "2m 5s", "3h 20m". From a minute on, the smaller unit is whole.
    public var text: String {
        let nanoseconds = clamped.wholeNanoseconds
        let sign = nanoseconds < 0 ? "-" : ""
        let microseconds = nanoseconds.magnitude / 1000
        let milliseconds = (microseconds + 500) / 1000
        if microseconds == 0 { return "0s" }
        if microseconds < 1000 { return "\(sign)\(microseconds)us" }
        if milliseconds < 1000 { return "\(sign)\(milliseconds)ms" }
        let tenths = (milliseconds + 50) / 100
        if tenths < 600 { return tenths % 10 == 0 ? "\(sign)\(tenths / 10)s" : "\(sign)\(tenths / 10).\(tenths % 10)s" }
        let seconds = (milliseconds + 500) / 1000
        let (minutes, hours) = (seconds / 60, seconds / 3600)
        if hours == 0 { return seconds % 60 == 0 ? "\(sign)\(minutes)m" : "\(sign)\(minutes)m \(seconds % 60)s" }
        return minutes % 60 == 0 ? "\(sign)\(hours)h" : "\(sign)\(hours)h \(minutes % 60)m"
    }
}
