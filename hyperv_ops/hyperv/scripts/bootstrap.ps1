# Runs the package's scripts one after another. Each line of standard input is a job: a script with its parameters, so
# that neither they nor any secret among them appear on a command line. Each job is answered by one line in Base64, which
# no code page can change. The process ends with its input. $input hands on what PowerShell reads from standard input.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$reading = @{}
# PowerShell 7 turns a string that looks like a date into a date; Windows PowerShell has neither that nor this parameter.
if ((Get-Command -Name ConvertFrom-Json).Parameters.ContainsKey('DateKind')) { $reading.DateKind = 'String' }
foreach ($line in $input) {
    if ($line -eq '') { continue }
    $reply = @{ ok = $false; id = 'NoAnswer'; message = 'the script ended without an answer' }
    # A loop of one pass, so that `break` or `continue` in a script ends that job and not this loop.
    foreach ($once in 1) {
        # A scope of its own: variables, functions and secrets of a job end with it.
        $reply = & {
            try {
                $job = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($args[0])) | ConvertFrom-Json @reading
                $parameters = @{}
                foreach ($one in $job.parameters.PSObject.Properties) { $parameters[$one.Name] = $one.Value }
                @{ ok = $true; value = @(& ([ScriptBlock]::Create($job.script)) @parameters) -join '' }
            } catch {
                @{ ok = $false; id = $_.FullyQualifiedErrorId; message = $_.Exception.Message }
            }
        } $line
    }
    # What a scope does not end.
    $line = $null
    $Error.Clear()
    Set-Location -LiteralPath $HOME
    Get-Variable -Name LASTEXITCODE -ErrorAction Ignore | Remove-Variable -Force
    Get-Job | Where-Object { "$($_.State)" -in 'Completed', 'Failed', 'Stopped' } | Remove-Job -Force
    # Stopping a background job waits for its guest, which may never answer: end this process instead.
    $reply.last = @(Get-Job).Count -gt 0
    # In which code page text besides the answer is written: `What if: ...`.
    $reply.code_page = [Console]::OutputEncoding.CodePage
    $json = ConvertTo-Json -Compress -InputObject $reply
    [Console]::Out.WriteLine('reply:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)))
    [Console]::Out.Flush()
    if ($reply.last) { break }
    $reply = $json = $null
}
# Immediately: `exit` would wait for background jobs.
[Environment]::Exit(0)
