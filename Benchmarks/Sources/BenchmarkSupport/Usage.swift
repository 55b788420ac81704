import Foundation

/// What this operating system process has used so far.
public enum Usage {
    /// User and system time of all threads, in microseconds.
    public static var cpuMicroseconds: Double {
        let usage = current
        let seconds = Double(usage.ru_utime.tv_sec) + Double(usage.ru_stime.tv_sec)
        return seconds * 1e6 + Double(usage.ru_utime.tv_usec) + Double(usage.ru_stime.tv_usec)
    }

    /// The largest resident set so far, in kB.
    public static var maximumResidentKilobytes: Int {
        #if canImport(Darwin)
        current.ru_maxrss / 1024
        #else
        current.ru_maxrss
        #endif
    }

    /// The resident set now, in bytes; 0 where the system has no `/proc`.
    public static var residentBytes: Int {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
        let fields = text.split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static var current: rusage {
        var usage = rusage()
        #if canImport(Glibc)
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        #else
        getrusage(RUSAGE_SELF, &usage)
        #endif
        return usage
    }
}
