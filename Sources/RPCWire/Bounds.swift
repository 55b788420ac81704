extension Duration {
    /// The same, but neither below zero nor longer than a hundred years, so that adding it to a time or to another one cannot overflow.
    package var bounded: Duration {
        min(max(.zero, self), .seconds(100 * 365 * 86_400))
    }
}
