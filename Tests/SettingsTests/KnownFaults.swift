/// Settings that are known to trap, to hang or to be misunderstood, and are not tried before that is mended.
enum KnownFaults {
    static let names: Set<String> = []
}
