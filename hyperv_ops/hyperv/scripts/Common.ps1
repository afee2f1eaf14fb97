# Functions of the scripts that run on the Hyper-V host. They dot-source this file; when a script is sent as text and has
# no folder, script_call.py replaces the line that dot-sources it by this text. A script that runs in a guest arrives
# there alone and uses none of them.

function Stop-Because([string] $Reason, [string] $Message) {
    throw [System.Management.Automation.ErrorRecord]::new(
        [System.InvalidOperationException]::new($Message), $Reason, 'NotSpecified', $null)
}

function Get-PlainState($Machine) {
    # `...Critical` is the same state with a full or missing disk; FastSaved is a kind of Saved.
    "$($Machine.State)" -replace 'Critical\z' -replace '^FastSaved\z', 'Saved'
}

function Get-Machine([string] $Name) {
    # ValidatePattern allows no wildcard in the name: this finds that machine or none.
    try {
        $found = @(Hyper-V\Get-VM -Name $Name -ErrorAction SilentlyContinue -ErrorVariable problems)
    } catch [System.Management.Automation.CommandNotFoundException] {
        Stop-Because 'NoHyperV' "${env:COMPUTERNAME}: no Hyper-V module; turn on the Windows feature Hyper-V"
    }
    if ($found.Count -eq 1) { return $found[0] }
    if ($found.Count -gt 1) {
        Stop-Because 'NotAllowed' "${Name}: $($found.Count) machines have this name; rename all but one"
    }
    # Hyper-V reports a missing machine as InvalidArgument. No other error means that it does not exist.
    $unclear = @($problems | Where-Object { "$($_.CategoryInfo.Category)" -ne 'InvalidArgument' })
    if ($unclear.Count -gt 0) { throw $unclear[0] }
    Stop-Because 'NoSuchMachine' "${Name}: no such machine on ${env:COMPUTERNAME}; New-FarmVM makes it"
}

function Stop-Power($Machine) {
    # As a job, because the cmdlet can hang together with its machine.
    $state = Get-PlainState $Machine
    if ($state -eq 'Off') { return }
    if ($state -eq 'Saved') {
        Hyper-V\Remove-VMSavedState -VM $Machine -Confirm:$false
        return
    }
    $job = Hyper-V\Stop-VM -VM $Machine -TurnOff -Force -AsJob -Confirm:$false
    Wait-Job -Job $job -Timeout 30 | Out-Null
    $state = Get-PlainState (Hyper-V\Get-VM -Id $Machine.Id)
    # A hibernated guest keeps its memory on its own disk.
    if ($state -notin 'Off', 'Hibernated') {
        Stop-Because 'TimedOut' "$($Machine.Name): still $state after 30 s; Stop-FarmVM -TurnOff goes further"
    }
}
