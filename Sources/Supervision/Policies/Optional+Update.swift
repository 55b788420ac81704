extension Optional {
    /// Changes the value in place, if there is one. An optional chain through a subscript would copy it.
    @discardableResult
    mutating func update<Result>(_ body: (inout Wrapped) -> Result) -> Result? {
        guard var changed = take() else { return nil }
        defer { self = changed }
        return body(&changed)
    }
}
